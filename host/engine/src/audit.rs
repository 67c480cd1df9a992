//! Measures the host memory behind a store's handles. An audit runs at every epoch and at the end
//! of every call, so it inspects a bounded number of header fields. Never charges or refuses
//! anything.

use crate::{
    keyvalue::{Bucket, Cas},
    limits,
};
use std::{any::Any, collections::HashSet};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::{DynOutputStream, ReaddirIterator};
use wasmtime_wasi_http::{
    FieldMap,
    p2::{
        bindings::http::types::{Method, Scheme},
        body::HostOutgoingBody,
        types::{HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse},
    },
    p3,
};

/// How many handles a store has, and the host memory behind them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) handles: usize,
    pub(crate) bytes: u64,
}

/// Measures all handles of a table.
pub(crate) fn measure(table: &mut ResourceTable) -> Held {
    let mut audit = Audit::default();
    for entry in table.iter_mut() {
        audit.held.handles += 1;
        audit.held.bytes += limits::HANDLE_BYTES + audit.content(entry);
    }
    audit.held
}

#[derive(Default)]
struct Audit {
    held: Held,
    headers_seen: usize,
    /// Field maps already measured: copies of a handle share one map until it is changed.
    maps: HashSet<*const http::HeaderMap>,
}

impl Audit {
    fn content(&mut self, entry: &(dyn Any + Send)) -> u64 {
        if let Some(fields) = entry.downcast_ref::<FieldMap>() {
            self.fields(fields)
        } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
            self.fields(&request.headers) + outgoing_target(request)
        } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
            self.fields(&response.headers)
        } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
            self.fields(&response.headers)
        } else if let Some(request) = entry.downcast_ref::<p3::Request>() {
            let authority = request.authority.as_ref().map_or(0, |authority| authority.as_str().len());
            let path = request.path_with_query.as_ref().map_or(0, |path| path.as_str().len());
            self.fields(&request.headers) + (authority + path + request.method.as_str().len()) as u64
        } else if let Some(response) = entry.downcast_ref::<p3::Response>() {
            self.fields(&response.headers)
        } else if entry.is::<HostOutgoingBody>() || entry.is::<DynOutputStream>() {
            limits::BODY_WRITE_BYTES_MAX as u64
        } else if let Some(bucket) = entry.downcast_ref::<Bucket>() {
            bucket.bytes()
        } else if let Some(cas) = entry.downcast_ref::<Cas>() {
            cas.bytes()
        } else if entry.is::<ReaddirIterator>() {
            limits::FOLDER_LIST_BYTES
        } else {
            0
        }
    }

    fn fields(&mut self, fields: &FieldMap) -> u64 {
        let map: &http::HeaderMap = fields;
        if map.is_empty() || !self.maps.insert(std::ptr::from_ref(map)) {
            return 0;
        }
        self.headers_seen = self.headers_seen.saturating_add(map.len());
        if self.headers_seen > limits::AUDITED_HEADERS_MAX {
            return limits::RESPONSE_HEADERS_BYTES_MAX as u64;
        }
        let in_memory = map.capacity() * size_of::<(http::HeaderName, http::HeaderValue)>();
        let text: usize = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        (in_memory + text) as u64
    }
}

fn outgoing_target(request: &HostOutgoingRequest) -> u64 {
    let method = match &request.method {
        Method::Other(name) => name.len(),
        _ => 0,
    };
    let scheme = match &request.scheme {
        Some(Scheme::Other(name)) => name.len(),
        _ => 0,
    };
    let texts = [&request.authority, &request.path_with_query].into_iter().flatten();
    (method + scheme + texts.map(String::len).sum::<usize>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(count: usize, value_bytes: usize) -> FieldMap {
        let mut map = FieldMap::new_mutable(usize::MAX);
        for index in 0..count {
            let name = http::HeaderName::from_bytes(format!("x-{index}").as_bytes()).unwrap();
            let value = http::HeaderValue::from_bytes(&vec![b'v'; value_bytes]).unwrap();
            map.append_raw(name, value).unwrap();
        }
        map
    }

    fn measured(entries: impl IntoIterator<Item = FieldMap>) -> Held {
        let mut table = ResourceTable::new();
        entries.into_iter().for_each(|entry| assert!(table.push(entry).is_ok()));
        measure(&mut table)
    }

    #[test]
    fn header_fields_are_measured_by_their_content() {
        let held = measured([fields(1, 100_000), fields(0, 0)]);
        assert_eq!(held.handles, 2);
        assert!((100_000..110_000).contains(&held.bytes), "{held:?}");
    }

    #[test]
    fn copies_of_a_handle_count_once_until_they_are_changed() {
        let one = fields(1, 100_000);
        assert!(measured([one.clone(), one.clone()]).bytes < 110_000);
        let mut changed = one.clone();
        changed.append_raw(http::header::COOKIE, http::HeaderValue::from_static("a=b")).unwrap();
        assert!(measured([one, changed]).bytes > 200_000);
    }

    #[test]
    fn an_audit_measures_a_bounded_number_of_headers() {
        let full = limits::AUDITED_HEADERS_MAX;
        let held = measured([fields(full, 1), fields(1, 1), fields(1, 1)]);
        assert!(
            held.bytes > 2 * limits::RESPONSE_HEADERS_BYTES_MAX as u64,
            "fields beyond the bound are charged their maximum: {held:?}"
        );
    }

    #[test]
    fn a_request_is_measured_with_its_target() {
        let mut table = ResourceTable::new();
        let request = HostOutgoingRequest {
            method: Method::Other("M".repeat(1_000)),
            scheme: Some(Scheme::Other("s".repeat(1_000))),
            authority: Some("a".repeat(1_000)),
            path_with_query: Some("p".repeat(1_000)),
            headers: FieldMap::default(),
            body: None,
        };
        assert!(table.push(request).is_ok());
        assert_eq!(measure(&mut table), Held { handles: 1, bytes: 4_000 + limits::HANDLE_BYTES });
    }
}
