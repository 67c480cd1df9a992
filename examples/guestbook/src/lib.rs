//! A guestbook: a page with a form, and entries in key-value storage, newest first.

use isopod_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    text: String,
}

isopod_sdk::http!(app);
isopod_sdk::routes!(app:
    GET "/" => page,
    GET "/entries" => list,
    POST "/entries" => sign,
);

/// Returns the newest 100 entries, newest first. Keys are numbers of equal width, so their order is
/// the order of signing.
fn entries() -> Result<Vec<Entry>> {
    let bucket = kv::open("default")?;
    let mut keys: Vec<String> = bucket.keys()?.into_iter().filter(|key| key.starts_with("entry/")).collect();
    keys.sort_unstable_by(|one, other| other.cmp(one));
    keys.iter().take(100).filter_map(|key| bucket.get_json(key).transpose()).collect()
}

async fn page(_request: Request) -> Result<Response> {
    let entries = entries()?;
    let html: String = entries.iter().map(Entry::html).collect();
    let count = if entries.len() == 1 { "1 entry".to_owned() } else { format!("{} entries", entries.len()) };
    Ok(Response::html(include_str!("page.html").replace("{count}", &count).replace("{entries}", &html)))
}

async fn list(_request: Request) -> Result<Response> {
    Response::json(&entries()?)
}

async fn sign(request: Request) -> Result<Response> {
    let field =
        |name: &str| request.form_param(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let name = field("name").or_status(400, "an entry needs a name")?;
    let text = field("text").or_status(400, "an entry needs a text")?;
    let bucket = kv::open("default")?;
    // Each entry has its own number and key, so that concurrent entries don't overwrite each other.
    let number = bucket.increment("count", 1)?;
    bucket.set_json(&format!("entry/{number:010}"), &Entry { name, text })?;
    Ok(Response::see_other("/"))
}

impl Entry {
    fn html(&self) -> String {
        let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        format!("<article><p>{}</p><small>— {}</small></article>\n", safe(&self.text), safe(&self.name))
    }
}

#[cfg(test)]
mod tests;
