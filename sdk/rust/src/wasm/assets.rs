//! The import `isopod:plugin/assets`. Never reads the content of an asset.

use super::abi::{Area, Slice, free_list};
use crate::plugin::assets::Asset;

#[link(wasm_import_module = "isopod:plugin/assets@0.1.0")]
unsafe extern "C" {
    #[link_name = "find"]
    fn raw_find(path: *const u8, path_length: usize, result: *mut u8);
}

/// `option<asset>`: its tag, then the record, which is aligned to its first field.
#[repr(C, align(8))]
struct RawFound {
    is_some: u8,
    size: u64,
    content_type: Slice,
    etag: Slice,
    encodings: *mut Slice,
    encoding_count: usize,
}

const _: () = assert!(size_of::<RawFound>() == 40);

pub(crate) fn find_asset(path: &str) -> Option<Asset> {
    super::worlds::link();
    let mut area = Area::<10>::new();
    // SAFETY: the area has room for the result, and the strings in it are ours.
    unsafe {
        raw_find(path.as_ptr(), path.len(), area.pointer());
        let found = area.pointer().cast::<RawFound>().read();
        if found.is_some == 0 {
            return None;
        }
        let encodings = (0..found.encoding_count).map(|index| found.encodings.add(index).read().into_string());
        let encodings = encodings.collect();
        free_list(found.encodings, found.encoding_count);
        Some(Asset {
            size: found.size,
            content_type: found.content_type.into_string(),
            etag: found.etag.into_string(),
            encodings,
        })
    }
}
