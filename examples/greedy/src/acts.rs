//! The acts, one for each path. Each does one thing, so that a test can identify the limit that it
//! reached.

use crate::{relay, storms};
use isopod_sdk::prelude::*;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Performs the act that the path names.
pub async fn act(request: Request) -> Result<Response> {
    let number = |name: &str, default: u64| -> Result<u64> {
        request.query_param(name).map_or(Ok(default), |value| Ok(value.parse()?))
    };
    let text = |name: &str| -> Result<String> {
        Ok(request.query_param(name).or_status(400, format!("the query needs {name}="))?.into_owned())
    };
    match request.path() {
        "/ok" | "/" => {}
        "/spin" => spin(request.query_param("ms").map(|ms| ms.parse().map(Duration::from_millis)).transpose()?),
        "/sleep" => sleep(Duration::from_millis(number("ms", 100)?)).await,
        "/allocate" => {
            let bytes = usize::try_from(number("mib", 4096)?)?.saturating_mul(1 << 20);
            return Ok(Response::text(format!("{} bytes", allocate(bytes).len())));
        }
        "/recurse" => return Ok(Response::text(recurse(1).to_string())),
        "/panic" => panic!("greedy was asked to panic"),
        "/trap" => trap(),
        "/exit" => std::process::exit(i32::try_from(number("code", 3)?)?),
        "/error" => return Err(Error::msg("greedy was asked to fail; this text is a secret")),
        "/never" => sleep(Duration::MAX).await,
        "/stuck" => std::future::pending().await,
        "/poll-storm" => storms::poll_storm(),
        "/call-storm" => storms::call_storm(),
        "/growth-storm" => storms::growth_storm(),
        "/handles" => return Ok(Response::text(format!("{} handles", hold_handles(number("count", u64::MAX)?)))),
        "/log-flood" => log_flood(number("lines", 1_000_000)?, number("bytes", 100)?),
        "/log-line" => println!("{}", text("text")?),
        "/log-at" => {
            let level = text("level")?.parse::<log::Level>().ok().or_status(400, "the level is unknown")?;
            // Without a context, the message is the whole line.
            log::log!(target: "", level, "{}", text("text")?);
        }
        "/log-bytes" => log_bytes(&text("hex")?)?,
        "/kv-flood" => return kv_flood(number("bytes", 1 << 20)?),
        "/config" => return Ok(Response::text(isopod_sdk::config::require(&text("name")?)?)),
        "/fetch" => return relay::relay(&request).await,
        "/fetch-many" => {
            let count = usize::try_from(number("count", 10_000)?)?;
            return Ok(Response::text(storms::fetch_many(&text("authority")?, count)));
        }
        "/connect" => return Ok(Response::text(connect(&text("address")?))),
        "/read" => return Ok(Response::text(outcome(std::fs::read_to_string(text("path")?)))),
        "/list" => return Ok(Response::text(outcome(list(&text("path")?)))),
        "/write" => {
            let bytes = vec![b'x'; usize::try_from(number("bytes", 1)?)?];
            return Ok(Response::text(outcome(std::fs::write(text("path")?, bytes).map(|()| "written".to_owned()))));
        }
        "/variable" => return Ok(Response::text(std::env::var(text("name")?).unwrap_or_else(|_| "unset".to_owned()))),
        "/random" => return Ok(Response::text(random().to_string())),
        "/hash" => return Ok(Response::text(RandomState::new().hash_one("a word").to_string())),
        "/clocks" => return clocks(),
        path => return reply(path, number("bytes", 2 << 30)?).await,
    }
    Ok(Response::text("ok"))
}

/// The acts in the response itself. The app's root defines `stream!`.
async fn reply(path: &str, bytes: u64) -> Result<Response> {
    let whole = || Response::text("hello");
    Ok(match path {
        "/reply-flood" => stream!(async move |mut out| {
            let piece = vec![b'x'; 64 * 1024];
            for _ in 0..bytes.div_ceil(piece.len() as u64) {
                out.write(&piece).await?;
            }
            Ok(())
        }),
        "/slow-reply" => stream!(async |mut out| {
            for piece in ["one ", "two ", "three ", "four ", "five"] {
                out.write(piece).await?;
                sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }),
        "/drip" => stream!(async move |mut out| {
            for _ in 0..bytes {
                out.write("x").await?;
                sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }),
        "/stuck-mid-reply" => stream!(async |mut out| {
            out.write("begun").await?;
            sleep(Duration::MAX).await;
            Ok(())
        }),
        "/panic-mid-reply" => stream!(async |mut out| {
            out.write("the beginning of an answer that ").await?;
            sleep(Duration::from_millis(50)).await;
            panic!("greedy was asked to panic in the middle of its answer")
        }),
        "/fail-mid-reply" => stream!(async |mut out| {
            out.write("the beginning of an answer that ").await?;
            Err("greedy was asked to fail in the middle of its answer")?
        }),
        "/illegal-header" => whole().with_header("not a name", "value"),
        "/illegal-value" => whole().with_header("x-split", "one\r\nset-cookie: two"),
        "/illegal-status" => whole().with_status(99),
        "/hop-header" => whole().with_header("connection", "close").with_header("transfer-encoding", "chunked"),
        "/wrong-length" => whole().with_header("content-length", "1000"),
        "/many-headers" => {
            let mut answer = whole();
            (0..10_000).for_each(|index| answer.headers.append(format!("x-{index}"), "value"));
            answer
        }
        _ => Response::text("greedy knows no such act").with_status(404),
    })
}

/// Uses the CPU for a time, or forever.
pub fn spin(time: Option<Duration>) {
    let start = Instant::now();
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
        if turns.is_multiple_of(10_000) && time.is_some_and(|time| start.elapsed() >= time) {
            return;
        }
    }
}

/// Allocates memory and writes to every page.
pub fn allocate(bytes: usize) -> Vec<u8> {
    let mut memory = Vec::new();
    while memory.len() < bytes {
        memory.resize(memory.len() + (1 << 20), 1);
    }
    black_box(memory)
}

/// Recurses until the stack overflows.
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == u64::MAX {
        return 0;
    }
    recurse(depth + 1) + frame[(depth % 64) as usize]
}

/// Returns the wall clock in milliseconds, and the time since the first call on the monotonic
/// clock, or `never` if that is in the future.
fn clocks() -> Result<Response> {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let (first, now) = (*FIRST.get_or_init(Instant::now), Instant::now());
    let since = now.checked_duration_since(first).map_or("never".to_owned(), |since| since.as_millis().to_string());
    Ok(Response::text(format!("{} {since}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())))
}

fn log_flood(lines: u64, bytes: u64) {
    let line = "x".repeat(bytes as usize);
    for index in 0..lines {
        println!("out {index} {line}");
        eprintln!("err {index} {line}");
        log::info!("log {index} {line}");
    }
}

/// Writes a line of bytes, which needn't be UTF-8.
fn log_bytes(hex: &str) -> Result<()> {
    let digits = hex.as_bytes().as_chunks::<2>().0;
    let byte = |digits: &[u8; 2]| -> Result<u8> { Ok(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?) };
    let mut line = digits.iter().map(byte).collect::<Result<Vec<u8>>>()?;
    line.push(b'\n');
    std::io::stdout().write_all(&line)?;
    Ok(())
}

fn kv_flood(bytes: u64) -> Result<Response> {
    let bucket = kv::open("default")?;
    let value = vec![b'x'; usize::try_from(bytes)?];
    for index in 0..10_000 {
        if let Err(error) = bucket.set(&format!("flood/{index}"), &value) {
            return Ok(Response::text(format!("{index} keys, then: {error}")));
        }
    }
    Ok(Response::text("10000 keys"))
}

fn list(path: &str) -> std::io::Result<String> {
    let names = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    Ok(names.collect::<std::io::Result<Vec<_>>>()?.join("\n"))
}

fn outcome(result: std::io::Result<String>) -> String {
    result.unwrap_or_else(|error| format!("refused: {error}"))
}

#[cfg(target_family = "wasm")]
use inside::{connect, hold_handles, random, trap};
#[cfg(not(target_family = "wasm"))]
use outside::{connect, hold_handles, random, trap};

/// Acts that work only in a component.
#[cfg(target_family = "wasm")]
mod inside {
    use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
    use wasip2::{http::types::Fields, sockets};

    pub fn random() -> u64 {
        wasip2::random::random::get_random_u64()
    }

    pub fn trap() {
        core::arch::wasm32::unreachable()
    }

    /// Creates resources at the host and leaks them.
    pub fn hold_handles(count: u64) -> u64 {
        (0..count).for_each(|_| std::mem::forget(Fields::new()));
        count
    }

    /// Opens a TCP connection without HTTP.
    pub fn connect(address: &str) -> String {
        match try_connect(address) {
            Ok(()) => "connected".to_owned(),
            Err(reason) => format!("refused: {reason}"),
        }
    }

    fn try_connect(address: &str) -> Result<(), String> {
        let address: std::net::SocketAddrV4 = address.parse().map_err(|error| format!("{error}"))?;
        let [a, b, c, d] = address.ip().octets();
        let remote = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) });
        let network = sockets::instance_network::instance_network();
        let socket = sockets::tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4);
        let socket = socket.map_err(|code| format!("{code:?}"))?;
        socket.start_connect(&network, remote).map_err(|code| format!("{code:?}"))?;
        socket.subscribe().block();
        socket.finish_connect().map(drop).map_err(|code| format!("{code:?}"))
    }
}

/// Stubs for native builds of the app's tests.
#[cfg(not(target_family = "wasm"))]
mod outside {
    pub fn random() -> u64 {
        0
    }

    pub fn trap() {
        panic!("greedy was asked to trap")
    }

    pub fn hold_handles(count: u64) -> u64 {
        count
    }

    pub fn connect(_: &str) -> String {
        "refused: only a component has a host to ask".to_owned()
    }
}
