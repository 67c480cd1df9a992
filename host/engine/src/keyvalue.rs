//! Implements `wasi:keyvalue` for guests, in both drafts that are in use. Never stores data itself:
//! the embedder's `KeyValue` does.

use crate::{
    account::Account,
    key_access::{Failure, KeyAccess},
    limits,
    sandbox::{KeyValue, ValueVersion},
    transaction::Transaction,
    waits::CallWaits,
};
use isopod_policy::Phase;
use std::sync::Arc;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

/// An open bucket.
#[expect(unreachable_pub, reason = "the generated code re-exports it")]
pub struct Bucket {
    name: String,
    /// Positions where a listing continues, for the draft with numeric cursors.
    cursors: Vec<String>,
    cursor_bytes: usize,
}

impl Bucket {
    /// Returns the host memory that the handle holds.
    pub(crate) fn bytes(&self) -> u64 {
        (self.name.len() + self.cursor_bytes) as u64
    }
}

/// A compare-and-swap handle: replaces a value only if it is unchanged since the guest read it.
#[expect(unreachable_pub, reason = "the generated code re-exports it")]
pub struct Cas {
    bucket: String,
    key: String,
    seen: ValueVersion,
}

impl Cas {
    /// Returns the host memory that the handle holds.
    pub(crate) fn bytes(&self) -> u64 {
        (self.bucket.len() + self.key.len()) as u64
    }
}

/// An instance's access to its app's data, if it was granted any.
pub(crate) struct KeyValueHost(Option<Arc<dyn KeyValue>>);

impl KeyValueHost {
    pub(crate) fn new(data: Option<Arc<dyn KeyValue>>) -> Self {
        Self(data)
    }
}

/// The borrowed parts of the host state that the generated traits are implemented for.
pub(crate) struct View<'a> {
    data: &'a KeyValueHost,
    table: &'a mut ResourceTable,
    account: &'a mut Account,
    transaction: Option<&'a mut Transaction>,
    waits: &'a Arc<CallWaits>,
}

impl<'a> View<'a> {
    pub(crate) fn new(
        data: &'a KeyValueHost,
        table: &'a mut ResourceTable,
        account: &'a mut Account,
        transaction: Option<&'a mut Transaction>,
        waits: &'a Arc<CallWaits>,
    ) -> Self {
        Self { data, table, account, transaction, waits }
    }
}

struct HasKeyValue;

impl HasData for HasKeyValue {
    type Data<'a> = View<'a>;
}

/// Offers both drafts to guests. `view` borrows the parts from a store's data.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> View<'_>,
) -> wasmtime::Result<()> {
    draft2::add(linker, view)?;
    draft1::add(linker, view)
}

/// Bytes that the current call has read so far.
#[derive(Default)]
struct Results(usize);

impl Results {
    fn add(&mut self, account: &mut Account, bytes: usize) -> Result<(), Failure> {
        self.0 = self.0.saturating_add(bytes);
        if self.0 > limits::HOST_CALL_BYTES_MAX {
            let most = limits::HOST_CALL_BYTES_MAX >> 20;
            return Err(Failure::Other(format!(
                "the keys and values of one call exceed {most} MiB: use several calls"
            )));
        }
        Ok(account.hold(bytes as u64)?)
    }
}

/// Checks the number of keys of one call.
fn check_keys(count: usize) -> Result<(), Failure> {
    let most = limits::KEYS_PER_CALL_MAX;
    if count <= most {
        return Ok(());
    }
    Err(Failure::Other(format!("{count} keys exceed the limit of {most} for one call: use several calls")))
}

impl View<'_> {
    fn open_bucket(&mut self, name: String) -> wasmtime::Result<Result<Resource<Bucket>, Failure>> {
        if self.data.0.is_none() {
            return Ok(Err(Failure::AccessDenied));
        }
        let (bytes, most) = (name.len(), limits::BUCKET_NAME_BYTES_MAX);
        if bytes > most {
            let text = format!("a bucket's name has at most {most} bytes, not {bytes}");
            return Ok(Err(Failure::Other(text)));
        }
        Ok(Ok(self.table.push(Bucket { name, cursors: Vec::new(), cursor_bytes: 0 })?))
    }

    /// Begins a call: returns the bucket's name and its data. A handle exists only if access was
    /// granted.
    fn bucket(&mut self, handle: &Resource<Bucket>) -> wasmtime::Result<(String, KeyAccess<'_>)> {
        self.account.begin_call();
        let name = self.table.get(handle)?.name.clone();
        Ok((name, self.data()?))
    }

    fn data(&mut self) -> wasmtime::Result<KeyAccess<'_>> {
        let data = self.data.0.clone().ok_or_else(|| wasmtime::format_err!("a bucket is open without a grant"))?;
        let waiting = self.waits.begin(Phase::KeyValue);
        let transaction = self.transaction.as_deref_mut();
        Ok(KeyAccess { data, transaction, account: self.account, _waiting: waiting })
    }

    fn remember_cursor(&mut self, handle: &Resource<Bucket>, cursor: String) -> wasmtime::Result<Result<u64, Failure>> {
        let bucket = self.table.get_mut(handle)?;
        if bucket.cursors.len() >= limits::LIST_CURSORS_MAX {
            return Ok(Err(Failure::Other("too many open listings on one bucket handle: open it again".into())));
        }
        bucket.cursor_bytes += cursor.len() + size_of::<String>();
        bucket.cursors.push(cursor);
        Ok(Ok(bucket.cursors.len() as u64 - 1))
    }

    fn recall_cursor(&self, handle: &Resource<Bucket>, cursor: u64) -> wasmtime::Result<Option<String>> {
        let cursors = &self.table.get(handle)?.cursors;
        Ok(usize::try_from(cursor).ok().and_then(|index| cursors.get(index).cloned()))
    }
}

/// Implements the calls that both drafts share, in the module of one draft.
macro_rules! shared_calls {
    () => {
        use self::generated::wasi::keyvalue::{atomics, batch, store};
        use super::*;

        impl From<Failure> for store::Error {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::NoSuchStore => Self::NoSuchStore,
                    Failure::AccessDenied => Self::AccessDenied,
                    Failure::Other(text) => Self::Other(text),
                }
            }
        }

        type Outcome<T> = wasmtime::Result<Result<T, store::Error>>;

        fn outcome<T>(result: Result<T, Failure>) -> Outcome<T> {
            Ok(result.map_err(Into::into))
        }

        pub(super) fn add<T: Send + 'static>(
            linker: &mut Linker<T>,
            view: fn(&mut T) -> View<'_>,
        ) -> wasmtime::Result<()> {
            store::add_to_linker::<_, HasKeyValue>(linker, view)?;
            atomics::add_to_linker::<_, HasKeyValue>(linker, view)?;
            batch::add_to_linker::<_, HasKeyValue>(linker, view)
        }

        impl store::Host for View<'_> {
            async fn open(&mut self, identifier: String) -> Outcome<Resource<Bucket>> {
                Ok(self.open_bucket(identifier)?.map_err(Into::into))
            }
        }

        impl store::HostBucket for View<'_> {
            async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Outcome<Option<Vec<u8>>> {
                let (name, mut data) = self.bucket(&bucket)?;
                outcome(data.get(&name, &key).await)
            }

            async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Outcome<()> {
                let (name, mut data) = self.bucket(&bucket)?;
                outcome(data.set(&name, &key, value).await)
            }

            async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Outcome<()> {
                let (name, mut data) = self.bucket(&bucket)?;
                outcome(data.delete(&name, &key).await)
            }

            async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Outcome<bool> {
                let (name, mut data) = self.bucket(&bucket)?;
                outcome(data.exists(&name, &key).await)
            }

            async fn list_keys(
                &mut self,
                bucket: Resource<Bucket>,
                cursor: Option<Cursor>,
            ) -> Outcome<store::KeyResponse> {
                let Ok(after) = read_cursor(self, &bucket, cursor)? else {
                    return Ok(Err(store::Error::Other("this cursor does not belong to this bucket handle".into())));
                };
                let (name, mut data) = self.bucket(&bucket)?;
                let (keys, next) = match data.list_keys(&name, after.as_deref()).await {
                    Ok(page) => page,
                    Err(error) => return outcome(Err(error)),
                };
                let cursor = match next {
                    None => None,
                    Some(next) => match make_cursor(self, &bucket, next)? {
                        Ok(cursor) => Some(cursor),
                        Err(failure) => return Ok(Err(failure.into())),
                    },
                };
                Ok(Ok(store::KeyResponse { keys, cursor }))
            }

            async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
                self.table.delete(bucket)?;
                Ok(())
            }
        }

        impl batch::Host for View<'_> {
            async fn get_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Outcome<Vec<Found>> {
                let (name, mut data) = self.bucket(&bucket)?;
                if let Err(failure) = check_keys(keys.len()) {
                    return Ok(Err(failure.into()));
                }
                let (mut found, mut results) = (Vec::new(), Results::default());
                for key in keys {
                    let value = match data.get(&name, &key).await {
                        Ok(value) => value,
                        Err(error) => return outcome(Err(error)),
                    };
                    let bytes = size_of::<Found>() + key.len() + value.as_ref().map_or(0, Vec::len);
                    if let Err(failure) = results.add(data.account, bytes) {
                        return Ok(Err(failure.into()));
                    }
                    found.push(found_entry(key, value));
                }
                Ok(Ok(found))
            }

            async fn set_many(&mut self, bucket: Resource<Bucket>, entries: Vec<(String, Vec<u8>)>) -> Outcome<()> {
                let (name, mut data) = self.bucket(&bucket)?;
                let bytes = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
                let admitted = check_keys(entries.len()).and_then(|()| Results::default().add(data.account, bytes));
                if let Err(failure) = admitted {
                    return Ok(Err(failure.into()));
                }
                for (key, value) in entries {
                    if let Err(error) = data.set(&name, &key, value).await {
                        return outcome(Err(error));
                    }
                }
                Ok(Ok(()))
            }

            async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Outcome<()> {
                let (name, mut data) = self.bucket(&bucket)?;
                if let Err(failure) = check_keys(keys.len()) {
                    return Ok(Err(failure.into()));
                }
                for key in keys {
                    if let Err(error) = data.delete(&name, &key).await {
                        return outcome(Err(error));
                    }
                }
                Ok(Ok(()))
            }
        }
    };
}

mod draft2 {
    mod generated {
        wasmtime::component::bindgen!({
            path: "wit/current",
            world: "isopod:host/capabilities",
            imports: { default: async | trappable },
            with: {
                "wasi:keyvalue/store.bucket": crate::keyvalue::Bucket,
                "wasi:keyvalue/atomics.cas": crate::keyvalue::Cas,
            },
        });
    }
    shared_calls!();

    type Cursor = String;
    type Found = (String, Option<Vec<u8>>);

    fn found_entry(key: String, value: Option<Vec<u8>>) -> Found {
        (key, value)
    }

    fn read_cursor(
        _: &View<'_>,
        _: &Resource<Bucket>,
        cursor: Option<Cursor>,
    ) -> wasmtime::Result<Result<Option<String>, ()>> {
        Ok(Ok(cursor))
    }

    fn make_cursor(_: &mut View<'_>, _: &Resource<Bucket>, next: String) -> wasmtime::Result<Result<Cursor, Failure>> {
        Ok(Ok(next))
    }

    impl atomics::Host for View<'_> {
        async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Outcome<i64> {
            let (name, mut data) = self.bucket(&bucket)?;
            outcome(data.increment(&name, &key, delta).await)
        }

        async fn swap(
            &mut self,
            cas: Resource<Cas>,
            value: Vec<u8>,
        ) -> wasmtime::Result<Result<(), atomics::CasError>> {
            let Cas { bucket, key, seen } = self.table.delete(cas)?;
            match self.data()?.set_if(&bucket, &key, seen, value).await {
                Ok(Ok(())) => Ok(Ok(())),
                Ok(Err(seen)) => {
                    let retry = self.table.push(Cas { bucket, key, seen })?;
                    Ok(Err(atomics::CasError::CasFailed(retry)))
                }
                Err(failure) => Ok(Err(atomics::CasError::StoreError(failure.into()))),
            }
        }
    }

    impl atomics::HostCas for View<'_> {
        async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Outcome<Resource<Cas>> {
            if key.len() > limits::CAS_KEY_BYTES_MAX {
                let detail = format!("a key has at most {} bytes", limits::CAS_KEY_BYTES_MAX);
                return Ok(Err(store::Error::Other(detail)));
            }
            let (bucket, mut data) = self.bucket(&bucket)?;
            match data.get_versioned(&bucket, &key).await {
                Ok((_, seen)) => Ok(Ok(self.table.push(Cas { bucket, key, seen })?)),
                Err(error) => outcome(Err(error)),
            }
        }

        /// Reads the value again; a later swap replaces this version.
        async fn current(&mut self, cas: Resource<Cas>) -> Outcome<Option<Vec<u8>>> {
            let Cas { bucket, key, .. } = self.table.get(&cas)?;
            let (bucket, key) = (bucket.clone(), key.clone());
            match self.data()?.get_versioned(&bucket, &key).await {
                Ok((value, seen)) => {
                    self.table.get_mut(&cas)?.seen = seen;
                    Ok(Ok(value))
                }
                Err(error) => outcome(Err(error)),
            }
        }

        async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
            self.table.delete(cas)?;
            Ok(())
        }
    }
}

mod draft1 {
    mod generated {
        wasmtime::component::bindgen!({
            path: "wit/first-draft",
            world: "isopod:host/capabilities",
            imports: { default: async | trappable },
            with: { "wasi:keyvalue/store.bucket": crate::keyvalue::Bucket },
        });
    }
    shared_calls!();

    type Cursor = u64;
    type Found = Option<(String, Vec<u8>)>;

    fn found_entry(key: String, value: Option<Vec<u8>>) -> Found {
        value.map(|value| (key, value))
    }

    fn read_cursor(
        view: &View<'_>,
        bucket: &Resource<Bucket>,
        cursor: Option<Cursor>,
    ) -> wasmtime::Result<Result<Option<String>, ()>> {
        let Some(cursor) = cursor else { return Ok(Ok(None)) };
        Ok(view.recall_cursor(bucket, cursor)?.map(Some).ok_or(()))
    }

    fn make_cursor(
        view: &mut View<'_>,
        bucket: &Resource<Bucket>,
        next: String,
    ) -> wasmtime::Result<Result<Cursor, Failure>> {
        view.remember_cursor(bucket, next)
    }

    impl atomics::Host for View<'_> {
        async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Outcome<u64> {
            let (name, mut data) = self.bucket(&bucket)?;
            let Ok(delta) = i64::try_from(delta) else {
                return Ok(Err(store::Error::Other("the increment is larger than 2^63 - 1".into())));
            };
            outcome(data.increment(&name, &key, delta).await.map(i64::cast_unsigned))
        }
    }
}
