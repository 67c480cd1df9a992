//! A small client for the admin API of a host: addresses, the token, JSON in and out, and errors made readable.
//! It knows no command: what to ask and how to show the answer is theirs.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use ureq::config::ConfigBuilder;
use ureq::http::{Method, Request, Response, StatusCode, Uri};
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, DefaultConnector};
use ureq::{Agent, Body, BodyReader, SendBody};

use super::failure::Failure;
use super::sse::Events;
use super::wire::Listening;
use super::{limits, output};
use crate::config;

/// Where a host listens for the API if it was not told.
pub(crate) const DEFAULT_HOST: &str = "http://127.0.0.1:8081";
/// Where `isopod dev` keeps the data of its host, below the project's folder.
pub(crate) const DEV_DATA_DIR: &str = ".isopod";
/// The file there that names the host's admin address.
pub(crate) const DEV_ADDRESS: &str = "admin.address";

/// Which host a command speaks to.
#[derive(Args, Debug, Clone)]
pub(crate) struct HostArgs {
    /// The admin address of the host [default: http://127.0.0.1:8081]
    #[arg(long, value_name = "URL", env = "ISOPOD_HOST", global = true)]
    pub(crate) host: Option<String>,
    /// The token; better given in the environment, since other users can see arguments
    #[arg(long, value_name = "TOKEN", env = "ISOPOD_TOKEN", hide_env_values = true, global = true)]
    pub(crate) token: Option<String>,
}

impl HostArgs {
    fn token(&self) -> Option<String> {
        self.token.clone().filter(|token| !token.trim().is_empty())
    }
}

/// A connection to the admin API of one host.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    status: StatusCode,
    raw: String,
    body: Value,
}

/// Events as the host sends them, each one JSON value.
pub(crate) type Follow = Events<BodyReader<'static>>;

impl Client {
    /// Speaks to the host named by the command line or the environment.
    pub(crate) fn new(args: &HostArgs) -> Result<Client, Failure> {
        let address = args.host.as_deref().unwrap_or(DEFAULT_HOST);
        Client::open(address, args.token(), config::default_data_dir().as_deref())
    }

    /// The same, but in the folder of a project that `isopod dev` runs, its host is the default: whoever asks there for
    /// logs means the app in front of them.
    pub(crate) fn near_project(args: &HostArgs) -> Result<Client, Failure> {
        let data_dir = Path::new(DEV_DATA_DIR);
        match std::fs::read_to_string(data_dir.join(DEV_ADDRESS)) {
            Ok(address) if args.host.is_none() && answers(&address) => Client::open(&address, None, Some(data_dir)),
            _ => Client::new(args),
        }
    }

    /// Speaks to the host at `address`; without a token, the one in `data_dir` is used if the host is this machine.
    pub(crate) fn open(address: &str, token: Option<String>, data_dir: Option<&Path>) -> Result<Client, Failure> {
        let base = base_url(address)?;
        let local = is_loopback(&base);
        // The file holds the key to this machine's own host, which is not for sending to other machines.
        let token = match token {
            None if local => data_dir.and_then(|folder| read_token(&folder.join("admin.token"))),
            other => other,
        };
        // What is followed has no end, so that only the head of an answer has its time.
        let agent = agent(local, |times| times.timeout_recv_response(Some(limits::ANSWER_TIMEOUT)));
        Ok(Client { agent, base, token })
    }

    /// The same host, but an answer that is not there as a whole after this time is a failure.
    pub(crate) fn answered_within(self, time: Duration) -> Client {
        let agent = agent(is_loopback(&self.base), |times| times.timeout_global(Some(time)));
        Client { agent, ..self }
    }

    /// Whether a project's folder led here, and not the command line, the environment or the default.
    pub(crate) fn is_of_dev(&self, args: &HostArgs) -> bool {
        args.host.is_none() && self.base != DEFAULT_HOST
    }

    /// The address as people know it.
    pub(crate) fn address(&self) -> &str {
        &self.base
    }

    /// Asks for a value.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.finish(self.run(Method::GET, path, &[], SendBody::none())?)
    }

    /// Asks for a list, in as many pages as it takes, and gives it as one: up to so many items, and in `next` whether there
    /// are more.
    pub(crate) fn all(&self, path: &str, items_max: usize) -> Result<Value, Failure> {
        let mut items = Vec::new();
        let mut next = String::new();
        loop {
            let limit = (items_max - items.len()).min(crate::limits::PAGE_ITEMS_MAX as usize);
            let cursor = if next.is_empty() { String::new() } else { format!("&cursor={}", escape(&next)) };
            let mut page = self.get(&format!("{path}?limit={limit}{cursor}"))?.success()?;
            let more = page["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let ends = more.is_empty();
            items.extend(more);
            next = output::field(&page, "next");
            if next.is_empty() || ends || items.len() >= items_max {
                return Ok(json!({"items": items, "next": page["next"]}));
            }
        }
    }

    /// Asks for something to be removed.
    pub(crate) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.finish(self.run(Method::DELETE, path, &[], SendBody::none())?)
    }

    /// Sends JSON, or nothing, with the method given.
    pub(crate) fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let text = body.map(Value::to_string).unwrap_or_default();
        self.send_text(method, path, "application/json", &text)
    }

    /// Sends text of the media type given.
    pub(crate) fn send_text(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        text: &str,
    ) -> Result<Answer, Failure> {
        let length = text.len().to_string();
        let headers = [("content-type", media_type), ("content-length", length.as_str())];
        self.finish(self.run(method, path, &headers, SendBody::from_reader(&mut text.as_bytes()))?)
    }

    /// Sends `length` bytes, read from `body` as they are sent. A host that knows the idempotency key already answers as it
    /// did the first time.
    pub(crate) fn upload(
        &self,
        path: &str,
        media_type: &str,
        idempotency_key: Option<&str>,
        length: u64,
        body: &mut dyn Read,
    ) -> Result<Answer, Failure> {
        let length = length.to_string();
        let mut headers = vec![("content-type", media_type), ("content-length", length.as_str())];
        headers.extend(idempotency_key.map(|key| ("idempotency-key", key)));
        self.finish(self.run(Method::POST, path, &headers, SendBody::from_reader(body))?)
    }

    /// Follows a stream of server-sent events. An answer which is no such stream is a failure.
    pub(crate) fn follow(&self, path: &str) -> Result<Follow, Failure> {
        self.follow_after(path, None)
    }

    /// As above, starting after the event with this id.
    pub(crate) fn follow_after(&self, path: &str, last_id: Option<&str>) -> Result<Follow, Failure> {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last_id.map(|id| ("last-event-id", id)));
        let response = self.run(Method::GET, path, &headers, SendBody::none())?;
        let streams = response
            .headers()
            .get("content-type")
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        if response.status().is_success() && streams {
            return Ok(Events::after(response.into_body().into_reader(), last_id));
        }
        self.finish(response)?.success()?;
        Err(Failure::new("the host did not answer with a stream of events")
            .next("check that `--host` is the admin address of an Isopod host of the same version as this program"))
    }

    fn run(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: SendBody<'_>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| {
            Failure::usage("the request cannot be written")
                .why(error)
                .next("look for stray characters in the host's address, the token and the names given")
        })?;
        self.agent.run(request).map_err(|error| self.unreachable(&error))
    }

    fn finish(&self, mut response: Response<Body>) -> Result<Answer, Failure> {
        let status = response.status();
        let raw = response.body_mut().with_config().limit(limits::ANSWER_BYTES_MAX).lossy_utf8(true).read_to_string();
        let raw = raw.map_err(|error| self.unreachable(&error))?;
        let body: Value = serde_json::from_str(&raw).unwrap_or(Value::Null);
        if body["address"] == "traffic" {
            return Err(self.is_of_traffic());
        }
        Ok(Answer { status, raw, body })
    }

    fn is_of_traffic(&self) -> Failure {
        Failure::new(format!("{} is the address of app traffic", self.base))
            .why("commands use the API, which has its own address")
            .next(format!(
                "set ISOPOD_HOST or --host to the admin address: `admin=` in the line `isopod ready …` of the host, by \
                 default {DEFAULT_HOST}"
            ))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let failure = Failure::new(format!("cannot speak to the host at {}", self.base));
        match error {
            ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => failure
                .why("nothing listens there")
                .next("start a host with `isopod up`, or name another with --host or ISOPOD_HOST"),
            ureq::Error::HostNotFound => failure.why("its name is not known").next("check --host or ISOPOD_HOST"),
            ureq::Error::Timeout(_) => failure.why("it gave no answer in time").next("check that the host is well"),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => speaks_no_tls(failure.why(error)),
            // Bytes that are no TLS come up as an error of reading.
            ureq::Error::Io(io) if self.base.starts_with("https://") && io.kind() == ErrorKind::InvalidData => {
                speaks_no_tls(failure.why("what answers there does not speak TLS"))
            }
            other => {
                failure.why(other).next("check that the host runs and that --host or ISOPOD_HOST is its admin address")
            }
        }
    }
}

type Settings = ConfigBuilder<AgentScope>;

fn agent(is_local: bool, times: impl FnOnce(Settings) -> Settings) -> Agent {
    let mut settings = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(limits::CONNECT_TIMEOUT))
        .user_agent(concat!("isopod/", env!("CARGO_PKG_VERSION")));
    if is_local {
        settings = settings.proxy(None);
    }
    let connector = DefaultConnector::default().chain(Listening);
    Agent::with_parts(times(settings).build(), connector, DefaultResolver::default())
}

fn speaks_no_tls(failure: Failure) -> Failure {
    failure.next("a host speaks plain http: write --host http://…; https is for a proxy in front of one")
}

impl Answer {
    /// The status alone, for callers to whom a refusal is a fact and not an error.
    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The body as text.
    pub(crate) fn raw(&self) -> &str {
        &self.raw
    }

    /// The body of a good answer; a problem becomes a failure.
    pub(crate) fn success(self) -> Result<Value, Failure> {
        if self.status.is_success() { Ok(self.body) } else { Err(self.failure()) }
    }

    /// The failure this answer stands for.
    pub(crate) fn failure(&self) -> Failure {
        Failure::from_answer(self.status.as_u16(), &self.body, &self.raw)
    }
}

/// Writes text so that it can stand as one part of a path or query.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn base_url(address: &str) -> Result<String, Failure> {
    let address = address.trim().trim_end_matches('/');
    let with_scheme = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let uri: Option<Uri> = with_scheme.parse().ok();
    let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?.as_str(), uri.path_and_query())));
    let Some((scheme @ ("http" | "https"), authority, path)) = parts else {
        let failure = Failure::usage(format!("`{address}` is not the address of a host"));
        return Err(failure.next(format!("write it as {DEFAULT_HOST}")));
    };
    // The name and the password may be secret, so they are not repeated.
    if let Some((_, host)) = authority.rsplit_once('@') {
        return Err(Failure::usage("the address of the host has a user name in it")
            .why("a host knows tokens only")
            .next(format!("write --host {scheme}://{host}, and the token in ISOPOD_TOKEN")));
    }
    let origin = format!("{scheme}://{authority}");
    if path.is_some_and(|path| path.as_str() != "/") || with_scheme.contains('#') {
        return Err(Failure::usage(format!("`{address}` has a path, and the address of a host has none"))
            .why("commands add the path of the API themselves")
            .next(format!("write --host {origin}")));
    }
    Ok(origin)
}

/// A host that was killed leaves its address behind, so that is believed only while somebody listens there.
fn answers(address: &str) -> bool {
    let address: Option<SocketAddr> = address.trim().parse().ok();
    address.is_some_and(|address| TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok())
}

fn is_loopback(base: &str) -> bool {
    let uri: Option<Uri> = base.parse().ok();
    let Some(host) = uri.as_ref().and_then(Uri::host) else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn read_token(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;

    #[test]
    fn addresses_may_leave_out_the_scheme_and_end_in_a_slash() {
        assert_eq!(base_url("127.0.0.1:8081/").unwrap(), "http://127.0.0.1:8081");
        assert_eq!(base_url("https://isopod.example.org").unwrap(), "https://isopod.example.org");
    }

    #[test]
    fn an_address_with_a_path_is_refused_with_the_address_to_write() {
        for given in ["http://127.0.0.1:8081/v1", "127.0.0.1:8081/v1/", "http://127.0.0.1:8081/?a=b"] {
            let refused = base_url(given).unwrap_err().text();
            assert!(refused.contains("has a path") && refused.contains("--host http://127.0.0.1:8081\n"), "{refused}");
        }
        assert!(base_url("http://user@127.0.0.1:8081").unwrap_err().text().contains("user name"));
    }

    #[test]
    fn what_is_no_address_is_wrong_usage() {
        assert!(base_url("ftp://x").is_err());
        assert!(base_url("").is_err());
    }

    #[test]
    fn the_local_token_is_for_this_machine_only() {
        assert!(is_loopback("http://127.0.0.1:8081"));
        assert!(is_loopback("http://[::1]:8081"));
        assert!(is_loopback("http://localhost:8081"));
        assert!(!is_loopback("http://192.168.1.2:8081"));
        assert!(!is_loopback("http://localhost.example.org"));
    }

    #[test]
    fn parts_of_a_path_are_escaped() {
        assert_eq!(escape("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }

    #[test]
    fn a_list_in_several_pages_is_read_to_its_end_or_to_as_many_as_are_wanted() {
        let page = |items: Value, next: Value| (200, json!({"items": items, "next": next}));
        let host = FakeHost::answering([page(json!([1, 2]), json!("a b")), page(json!([3]), Value::Null)]);
        let client = host.app("shop").client;
        assert_eq!(client.all("/v1/apps", 1500).unwrap(), json!({"items": [1, 2, 3], "next": null}));
        let lines: Vec<String> = host.asked().into_iter().map(|asked| asked.line).collect();
        assert_eq!(lines, ["GET /v1/apps?limit=1000", "GET /v1/apps?limit=1000&cursor=a%20b"]);
        let host = FakeHost::answering([page(json!([1, 2]), json!("c"))]);
        let client = host.app("shop").client;
        assert_eq!(client.all("/v1/apps", 2).unwrap(), json!({"items": [1, 2], "next": "c"}));
    }

    #[test]
    fn a_host_without_tls_is_not_answered_with_a_riddle() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 16]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        });
        let Err(failure) = Client::open(&address, None, None).unwrap().get("/v1/apps") else { panic!("it speaks TLS") };
        assert!(failure.text().contains("plain http"), "{}", failure.text());
    }

    #[test]
    fn a_refused_connection_says_how_to_start_a_host() {
        // A port that was just free is as good as certain to refuse.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::open(&format!("http://127.0.0.1:{port}"), None, None).unwrap();
        let Err(failure) = client.get("/v1/apps") else { panic!("something answers at {port}") };
        assert!(format!("{failure:?}").contains("isopod up"), "{failure:?}");
    }
}
