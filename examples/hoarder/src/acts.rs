//! The acts. Each does one thing and reports the result, so that a test can identify the limit that
//! it reached.

#[cfg(target_family = "wasm")]
pub use inside::{bodies, fields, get_many, held_fields, leak, lines, open, random, targets, write};
#[cfg(not(target_family = "wasm"))]
pub use outside::{bodies, fields, get_many, held_fields, leak, lines, open, random, targets, write};

/// Acts that work only in a component.
#[cfg(target_family = "wasm")]
mod inside {
    use wasi::keyvalue::{batch, store};
    use wasip2::cli::stdout::get_stdout;
    use wasip2::http::types::{Fields, OutgoingRequest};

    wit_bindgen::generate!({
        inline: "
            package isopod:hoarder;
            world data {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        path: "../../host/engine/wit/current",
        world: "isopod:hoarder/data",
        generate_all,
    });

    /// Requests one value of `bytes` bytes many times in one call.
    pub fn get_many(count: usize, bytes: usize) -> String {
        let bucket = store::open("default").expect("the app has the grant");
        bucket.set("large", &vec![b'v'; bytes]).expect("the value is within its bound");
        match batch::get_many(&bucket, &vec!["large".to_owned(); count]) {
            Ok(found) => format!("{} values", found.len()),
            Err(error) => format!("refused: {error:?}"),
        }
    }

    /// Opens buckets with long names and keeps them.
    pub fn open(count: usize, bytes: usize) -> String {
        let name = "n".repeat(bytes);
        let mut kept = Vec::new();
        for _ in 0..count {
            match store::open(&name) {
                Ok(bucket) => kept.push(bucket),
                Err(error) => return format!("{} buckets, then refused: {error:?}", kept.len()),
            }
        }
        format!("{} buckets", kept.len())
    }

    /// Creates large header fields and keeps them until the end of the call.
    pub fn fields(count: usize, bytes: usize) -> String {
        create_fields(count, bytes).1
    }

    /// Creates large header fields and never drops them, so that the host measures all of them at
    /// the end of the call.
    pub fn held_fields(count: usize, bytes: usize) -> String {
        let (fields, said) = create_fields(count, bytes);
        std::mem::forget(fields);
        said
    }

    fn create_fields(count: usize, bytes: usize) -> (Vec<Fields>, String) {
        let mut kept = Vec::new();
        for _ in 0..count {
            let fields = Fields::new();
            if let Err(error) = fields.append("x-kept", &vec![b'v'; bytes]) {
                let said = format!("{} fields, then refused: {error:?}", kept.len());
                return (kept, said);
            }
            kept.push(fields);
        }
        let said = format!("{} fields", kept.len());
        (kept, said)
    }

    /// Fills the bodies of requests that are never sent.
    pub fn bodies(count: usize) -> String {
        let mut kept = Vec::new();
        for _ in 0..count {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body().expect("it is taken once");
            let stream = body.write().expect("it is taken once");
            while let Ok(permit @ 1..) = stream.check_write() {
                stream.write(&vec![b'b'; permit as usize]).expect("so much is permitted");
            }
            // In the order in which they may be dropped.
            kept.push((stream, body, request));
        }
        format!("{} bodies", kept.len())
    }

    /// Creates requests with long paths and keeps them.
    pub fn targets(count: usize, bytes: usize) -> String {
        let path = format!("/{}", "p".repeat(bytes));
        let mut kept = Vec::new();
        for _ in 0..count {
            let request = OutgoingRequest::new(Fields::new());
            if request.set_path_with_query(Some(&path)).is_err() {
                return format!("{} targets, then refused", kept.len());
            }
            kept.push(request);
        }
        format!("{} targets", kept.len())
    }

    pub fn random(bytes: u64) -> String {
        let random = wasip2::random::random::get_random_bytes(bytes);
        format!("{} bytes, {} of them zero", random.len(), random.iter().filter(|byte| **byte == 0).count())
    }

    /// Writes to standard output in one call, ignoring `check-write`.
    pub fn write(bytes: usize) -> String {
        match get_stdout().write(&vec![b'w'; bytes]) {
            Ok(()) => "written".to_owned(),
            Err(error) => format!("refused: {error:?}"),
        }
    }

    /// Writes empty lines, as many per call as `check-write` permits.
    pub fn lines(mut count: usize) -> String {
        let (stdout, mut calls) = (get_stdout(), 0);
        while count > 0 {
            let permit = stdout.check_write().expect("the standard output is open") as usize;
            let now = permit.min(count);
            stdout.write(&vec![b'\n'; now]).expect("so much is permitted");
            (count, calls) = (count - now, calls + 1);
        }
        format!("{calls} calls")
    }

    /// Creates host resources and leaks them.
    pub fn leak(count: usize) -> String {
        (0..count).for_each(|_| std::mem::forget(Fields::new()));
        format!("{count} handles")
    }
}

/// A stub for native builds of the app's tests.
#[cfg(not(target_family = "wasm"))]
mod outside {
    const NO_HOST: &str = "only a component has a host to ask";

    pub fn get_many(_: usize, _: usize) -> String {
        NO_HOST.to_owned()
    }

    pub fn open(_: usize, _: usize) -> String {
        NO_HOST.to_owned()
    }

    pub fn fields(_: usize, _: usize) -> String {
        NO_HOST.to_owned()
    }

    pub fn held_fields(_: usize, _: usize) -> String {
        NO_HOST.to_owned()
    }

    pub fn bodies(_: usize) -> String {
        NO_HOST.to_owned()
    }

    pub fn targets(_: usize, _: usize) -> String {
        NO_HOST.to_owned()
    }

    pub fn random(_: u64) -> String {
        NO_HOST.to_owned()
    }

    pub fn write(_: usize) -> String {
        NO_HOST.to_owned()
    }

    pub fn lines(_: usize) -> String {
        NO_HOST.to_owned()
    }

    pub fn leak(_: usize) -> String {
        NO_HOST.to_owned()
    }
}
