//! The shared parts of `isopod serve` and `isopod run`: loads one component from a file and builds
//! its sandbox from flags. Never stores data.

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use isopod_engine::{
    Component, Engine, EngineConfig, Folder, KeyValue, KvError, Output, OutputLine, Sandbox, Speed, Stream,
    ValueVersion,
};
use isopod_policy::{
    Form, Grants, HttpGrant,
    text::{printable, printable_line},
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{compiled, limits, output, progress::Step};

/// The capabilities of the component. Without flags it has none.
#[derive(Debug, clap::Args)]
pub(crate) struct Granted {
    /// A folder of this machine and its path inside the sandbox; append `::ro` for read-only access
    #[arg(long = "dir", value_name = "HOST::GUEST", value_parser = folder)]
    dirs: Vec<Folder>,
    /// An environment variable, also readable through wasi:config
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    envs: Vec<(String, String)>,
    /// A host that the component may send HTTP requests to, such as `api.example.org` or
    /// `*.example.org:8443`
    #[arg(long = "allow-http", value_name = "HOST")]
    allow_http: Vec<HttpGrant>,
    /// Let the component use sockets and reach every address
    #[arg(long)]
    inherit_network: bool,
}

impl Granted {
    /// Returns the sandbox that the flags describe.
    pub(crate) fn sandbox(&self, app: &str, args: Vec<String>, output: Arc<dyn Output>) -> Sandbox {
        Sandbox {
            args,
            config: self.envs.clone(),
            env: self.envs.clone(),
            grants: Grants { http: self.allow_http.clone(), keyvalue: true, ..Grants::default() },
            inherit_network: self.inherit_network,
            folders: self.dirs.clone(),
            keyvalue: Some(Arc::new(InMemory::default())),
            may_use_reserve: true,
            ..Sandbox::without_rights(app.to_owned(), output)
        }
    }
}

fn variable(pair: &str) -> Result<(String, String)> {
    match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("write it as KEY=VALUE"),
    }
}

fn folder(text: &str) -> Result<Folder> {
    let mut parts = text.split("::");
    let (host, guest, mode) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let writable = match mode {
        None | Some("rw") => true,
        Some("ro") => false,
        Some(other) => bail!("invalid access `{other}`: use `ro` or `rw`"),
    };
    let host = PathBuf::from(host);
    if !host.is_dir() {
        bail!("folder {} doesn't exist; create it first", host.display());
    }
    let guest = guest.map_or_else(|| host.display().to_string(), str::to_owned);
    Ok(Folder { host, guest, writable })
}

/// Returns the engine's settings for a component with these grants. The engine stores compiled code
/// for the next start.
pub(crate) fn engine_config(granted: &Granted) -> Result<EngineConfig> {
    compiled::check_granted(&granted.dirs)?;
    Ok(EngineConfig { cache_dir: compiled::folder(), ..EngineConfig::default() })
}

/// A compiled component.
pub(crate) struct Loaded {
    pub(crate) component: Component,
    /// The compile time, if it was long and not shown by a progress display.
    pub(crate) took_silently: Option<Duration>,
}

/// Reads and compiles a component, or reuses compiled code of the same file.
pub(crate) async fn load(engine: &Engine, file: &Path) -> Result<Loaded> {
    let bytes = read(file).with_context(|| format!("can't read {}", file.display()))?;
    check_kind(&bytes, file)?;
    let (component, took_silently) = compile(engine, bytes, file).await?;
    compiled::touch(&component.info().digest);
    Ok(Loaded { component: component.with_source(file), took_silently })
}

async fn compile(engine: &Engine, bytes: Vec<u8>, file: &Path) -> Result<(Component, Option<Duration>)> {
    let started = Instant::now();
    let mut load = std::pin::pin!(engine.load(Bytes::from(bytes), Speed::Optimised));
    let mut took_silently = None;
    let loaded = match tokio::time::timeout(limits::COMPILE_SILENCE, load.as_mut()).await {
        Ok(loaded) => loaded,
        // Without a terminal, no progress is shown: the first line must be the address or the
        // command's output.
        Err(_) if std::io::stderr().is_terminal() => {
            let step = Step::spinner(&format!("compiling {}…", file.display()));
            let loaded = load.await;
            step.finish();
            loaded
        }
        Err(_) => {
            let loaded = load.await;
            took_silently = Some(started.elapsed());
            loaded
        }
    };
    Ok((loaded.with_context(|| format!("can't run {}", file.display()))?, took_silently))
}

/// Reads a regular file within the size limit. Reading a device may never end, and reading a pipe
/// may block forever.
fn read(file: &Path) -> Result<Vec<u8>> {
    let found = std::fs::metadata(file)?;
    if !found.is_file() {
        bail!("not a regular file");
    }
    let most = limits::LOCAL_COMPONENT_BYTES_MAX;
    if found.len() > most {
        bail!("it has {}, and a component may have at most {}", output::size(found.len()), output::size(most));
    }
    Ok(std::fs::read(file)?)
}

/// Names the format of a file that is not WebAssembly. The engine's own error is about uploads.
fn check_kind(bytes: &[u8], file: &Path) -> Result<()> {
    let name = file.display();
    match Form::sniff(bytes) {
        Some(Form::Component | Form::CoreModule) => Ok(()),
        Some(Form::Gzip) => {
            bail!("{name} is a bundle: name the component in it, or deploy the bundle: isopod deploy {name}")
        }
        Some(form) => bail!("{name} is not WebAssembly: it is {form}. {}", form.advice()),
        None if bytes.is_empty() => bail!("{name} is empty: build it again"),
        None => bail!(
            "{name} is not WebAssembly: it does not start with the bytes `\\0asm`. Name the .wasm file that your build \
             wrote, for Rust below target/wasm32-wasip2/"
        ),
    }
}

/// Writes the component's lines to this program's standard output and error, with control
/// characters as escapes.
pub(crate) struct Terminal;

impl Output for Terminal {
    fn line(&self, line: OutputLine<'_>) {
        let text = printable(line.text);
        // A closed terminal must not stop the component.
        let _ = match line.stream {
            Stream::Stdout => writeln!(std::io::stdout(), "{text}"),
            Stream::Stderr => writeln!(std::io::stderr(), "{text}"),
            // Continuation lines are indented, so that none resembles a separate message.
            Stream::Log(level) => {
                let (context, text) = (printable_line(line.context), text.replace('\n', "\n    "));
                writeln!(std::io::stderr(), "{level} {context} {text}")
            }
        };
    }
}

/// Key-value data in memory, which is lost when the process exits.
#[derive(Default)]
struct InMemory(Mutex<Entries>);

type Entries = BTreeMap<(String, String), Vec<u8>>;

impl InMemory {
    fn with<R>(&self, use_data: impl FnOnce(&mut Entries) -> R) -> R {
        use_data(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn insert(data: &mut Entries, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), KvError> {
    let used: usize = data.iter().map(|((_, key), value)| key.len() + value.len()).sum();
    if used + key.len() + value.len() > limits::LOCAL_KEY_VALUE_BYTES_MAX {
        return Err(KvError::Other("the in-memory key-value data is full".into()));
    }
    data.insert((bucket.to_owned(), key.to_owned()), value);
    Ok(())
}

fn version(value: Option<&[u8]>) -> ValueVersion {
    ValueVersion(value.map(|value| Sha256::digest(value).into()))
}

#[async_trait]
impl KeyValue for InMemory {
    async fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.with(|data| data.get(&(bucket.to_owned(), key.to_owned())).cloned()))
    }

    async fn set(&self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), KvError> {
        self.with(|data| insert(data, bucket, key, value))
    }

    async fn delete(&self, bucket: &str, key: &str) -> Result<(), KvError> {
        self.with(|data| data.remove(&(bucket.to_owned(), key.to_owned())));
        Ok(())
    }

    async fn exists(&self, bucket: &str, key: &str) -> Result<bool, KvError> {
        Ok(self.with(|data| data.contains_key(&(bucket.to_owned(), key.to_owned()))))
    }

    async fn list_keys(&self, bucket: &str, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>), KvError> {
        self.with(|data| {
            let after = |key: &str| cursor.is_none_or(|cursor| key > cursor);
            let mut keys: Vec<String> = data
                .keys()
                .filter(|(b, key)| b == bucket && after(key))
                .map(|(_, key)| key.clone())
                .take(limits::LOCAL_KEY_VALUE_PAGE_KEYS + 1)
                .collect();
            let more = keys.len() > limits::LOCAL_KEY_VALUE_PAGE_KEYS;
            keys.truncate(limits::LOCAL_KEY_VALUE_PAGE_KEYS);
            let next = if more { keys.last().cloned() } else { None };
            Ok((keys, next))
        })
    }

    async fn increment(&self, bucket: &str, key: &str, delta: i64) -> Result<i64, KvError> {
        self.with(|data| {
            let entry = data.entry((bucket.to_owned(), key.to_owned())).or_insert_with(|| b"0".to_vec());
            let number = std::str::from_utf8(entry).ok().and_then(|text| text.parse::<i64>().ok());
            let sum = number.and_then(|number| number.checked_add(delta));
            let sum = sum.ok_or_else(|| {
                KvError::Other(format!(
                    "can't add {delta} to the value of `{key}`: it is not a number, or the sum is too large"
                ))
            })?;
            *entry = sum.to_string().into_bytes();
            Ok(sum)
        })
    }

    async fn get_versioned(&self, bucket: &str, key: &str) -> Result<(Option<Vec<u8>>, ValueVersion), KvError> {
        let value = self.get(bucket, key).await?;
        let version = version(value.as_deref());
        Ok((value, version))
    }

    async fn set_if(
        &self,
        bucket: &str,
        key: &str,
        seen: ValueVersion,
        value: Vec<u8>,
    ) -> Result<Result<(), ValueVersion>, KvError> {
        self.with(|data| {
            let present = version(data.get(&(bucket.to_owned(), key.to_owned())).map(Vec::as_slice));
            if present != seen {
                return Ok(Err(present));
            }
            insert(data, bucket, key, value).map(Ok)
        })
    }

    fn check_entry(&self, _: &str, _: &str, _: &[u8]) -> Result<(), KvError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_a_file_that_is_not_a_component_is_named() {
        let kind = |bytes: &[u8]| check_kind(bytes, Path::new("x.wasm")).map_err(|error| error.to_string());
        assert_eq!(kind(b"\0asm\x0d\0\x01\0"), Ok(()));
        assert!(kind(b"#!/bin/sh").unwrap_err().contains("it is plain text. Take the component"));
        assert!(kind(b"\x01\x02").unwrap_err().contains("Name the .wasm file"));
        assert!(kind(&[0x1f, 0x8b, 8]).unwrap_err().contains("isopod deploy x.wasm"));
    }
}
