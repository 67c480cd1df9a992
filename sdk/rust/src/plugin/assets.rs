//! The assets of the app whose request a middleware decides about: the files below `static/` of its
//! bundle. A middleware finds them and responds with them; the host sends their content.
//!
//! ```
//! use isopod_sdk::plugin::{AppRequest, AssetResponse, Decision, NoSettings, assets};
//! use isopod_sdk::prelude::*;
//!
//! isopod_sdk::middleware!(serve);
//!
//! async fn serve(request: &AppRequest, _: &NoSettings) -> Result<Decision> {
//!     let path = request.path().trim_start_matches('/');
//!     Ok(match assets::find(path) {
//!         Some(_) => AssetResponse::new(path).with_header("cache-control", "max-age=60").into(),
//!         None => Decision::Pass,
//!     })
//! }
//! # fn main() {}
//! ```

use std::borrow::Cow;

use crate::http::{HeaderValue, Headers};
use crate::platform;

/// An asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// The length of its content in bytes.
    pub size: u64,
    /// The content type, derived from the file name's extension.
    pub content_type: String,
    /// The strong validator of its content, with quotes.
    pub etag: String,
    /// The encodings in which the bundle also contains it, such as `br`.
    pub encodings: Vec<String>,
}

/// Returns the asset with exactly this path below `static/`, such as `css/site.css`. Outside a
/// handler of requests, returns `None`.
pub fn find(path: &str) -> Option<Asset> {
    platform::find_asset(path)
}

/// A response with an asset as its body. The host sets the header fields about the content, and
/// evaluates the conditions and the range of the request if the status is 200.
#[derive(Debug)]
pub struct AssetResponse {
    /// The asset's path below `static/`.
    pub path: String,
    /// The status code.
    pub status: u16,
    /// Further header fields.
    pub headers: Headers,
}

impl AssetResponse {
    /// Creates a response with status 200.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), status: 200, headers: Headers::default() }
    }

    /// Changes the status code.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Sets a header field, and removes all others of its name.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) -> Self {
        self.headers.set(name, value);
        self
    }
}
