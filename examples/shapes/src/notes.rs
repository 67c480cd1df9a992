//! A list under one key, to which several instances append concurrently.

use isopod_sdk::prelude::*;

/// Appends the body of a POST to the list and returns its length.
pub fn answer(request: &Request) -> Result<Response> {
    let bucket = kv::open("default")?;
    if request.method != Method::Post {
        return Response::json(&bucket.get_json::<Vec<String>>("notes")?.unwrap_or_default());
    }
    let notes = bucket.update_json("notes", |old: Option<Vec<String>>| {
        let mut notes = old.unwrap_or_default();
        notes.push(String::from_utf8_lossy(request.bytes()).into_owned());
        notes
    })?;
    Ok(Response::text(notes.len().to_string()).with_status(201))
}

#[cfg(test)]
mod tests;
