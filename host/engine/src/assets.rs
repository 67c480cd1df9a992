//! Implements `isopod:plugin/assets` for guests: a middleware finds the assets of the app whose
//! request it decides about. Never reads the content of an asset.

use crate::state::HostState;
use isopod_policy::{Asset, AssetEncoding};
use wasmtime::component::{HasSelf, Linker};

mod generated {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/plugin",
        world: "isopod:plugin/assets-plugin",
    });
}

use generated::isopod::plugin::assets as wit;

/// Offers `isopod:plugin/assets` to guests.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}

impl wit::Host for HostState {
    fn find(&mut self, path: String) -> Option<wit::Asset> {
        let assets = self.assets.as_ref()?;
        let asset = assets.get(&path)?;
        Some(wit::Asset {
            size: asset.size,
            content_type: content_type(asset),
            etag: quoted_etag(asset),
            encodings: assets.encoded(asset).map(|(encoding, _)| AssetEncoding::as_str(encoding).to_owned()).collect(),
        })
    }
}

/// Returns the content type by the file name's extension. Texts are UTF-8.
pub fn content_type(asset: &Asset) -> String {
    let guessed = mime_guess::from_path(asset.path()).first_or_octet_stream();
    let is_text = guessed.type_() == mime_guess::mime::TEXT && guessed.get_param(mime_guess::mime::CHARSET).is_none();
    if is_text { format!("{guessed}; charset=utf-8") } else { guessed.to_string() }
}

/// Returns the validator of an asset as in the field `etag`.
pub fn quoted_etag(asset: &Asset) -> String {
    format!("\"{}\"", asset.etag())
}
