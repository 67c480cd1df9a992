//! The HTTP client of a host's admin API: addresses, tokens, JSON requests and responses, and
//! readable errors. Never knows a command or formats a result.

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
use super::wire::TolerantConnector;
use super::{limits, output};
use crate::{config, http::response_rules};

/// The default admin address of a host.
pub(crate) const DEFAULT_HOST: &str = "http://127.0.0.1:8081";
/// The data folder of the host that `isopod dev` runs, relative to the project's folder.
pub(crate) const DEV_DATA_DIR: &str = ".isopod";
/// The file in that folder with the host's admin address.
pub(crate) const DEV_ADDRESS: &str = "admin.address";

/// The host that a command sends its requests to.
#[derive(Args, Debug, Clone)]
pub(crate) struct HostArgs {
    /// The admin address of the host [env: ISOPOD_HOST] [default: http://127.0.0.1:8081]
    #[arg(long, value_name = "URL", global = true)]
    host: Option<String>,
    /// The token; prefer the variable, since other users can see arguments [env: ISOPOD_TOKEN]
    #[arg(long, value_name = "TOKEN", global = true)]
    token: Option<String>,
}

impl HostArgs {
    /// Returns the address from the command line or the environment.
    fn address(&self) -> Option<String> {
        self.host.clone().or_else(config::host_address)
    }

    fn token(&self) -> Option<String> {
        token_or_variable(self.token.as_deref())
    }
}

/// Returns the token from the command line or the environment. An empty token counts as none.
pub(crate) fn token_or_variable(argument: Option<&str>) -> Option<String> {
    let token = argument.map(str::to_owned).or_else(config::token);
    token.filter(|token| !token.trim().is_empty())
}

/// A client of the admin API of one host.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// A response with any status.
pub(crate) struct Answer {
    status: StatusCode,
    raw: String,
    body: Value,
}

/// A stream of server-sent events, each one JSON value.
pub(crate) type Follow = Events<BodyReader<'static>>;

impl Client {
    /// Creates a client for the host named by the command line or the environment.
    pub(crate) fn new(args: &HostArgs) -> Result<Client, Failure> {
        let address = args.address();
        let address = address.as_deref().unwrap_or(DEFAULT_HOST);
        Client::open(address, args.token(), config::default_data_dir().as_deref())
    }

    /// Creates a client like [`Client::new`], but the default host is that of `isopod dev` if the
    /// working folder is a project that it runs.
    pub(crate) fn near_project(args: &HostArgs) -> Result<Client, Failure> {
        let data_dir = Path::new(DEV_DATA_DIR);
        match std::fs::read_to_string(data_dir.join(DEV_ADDRESS)) {
            Ok(address) if args.address().is_none() && answers(&address) => {
                Client::open(&address, None, Some(data_dir))
            }
            _ => Client::new(args),
        }
    }

    /// Creates a client for `address`. Without a token it uses that of `data_dir`, but only for
    /// a host on this machine.
    pub(crate) fn open(address: &str, token: Option<String>, data_dir: Option<&Path>) -> Result<Client, Failure> {
        let base = base_url(address)?;
        let local = is_loopback(&base);
        // The file contains the token of this machine's host, which must not be sent to other
        // machines.
        let token = match token {
            None if local => data_dir.and_then(|folder| read_token(&folder.join("admin.token"))),
            other => other,
        };
        // A followed stream has no end, so the timeout covers only the head of the response.
        let agent = agent(local, |times| times.timeout_recv_response(Some(limits::RESPONSE_TIMEOUT)));
        Ok(Client { agent, base, token })
    }

    /// Returns a client for the same host that fails if a complete response takes longer than
    /// `time`.
    pub(crate) fn with_response_timeout(self, time: Duration) -> Client {
        let agent = agent(is_loopback(&self.base), |times| times.timeout_global(Some(time)));
        Client { agent, ..self }
    }

    /// Returns whether the address is that of `isopod dev`, not from the command line, the
    /// environment or the default.
    pub(crate) fn is_of_dev(&self, args: &HostArgs) -> bool {
        args.address().is_none() && self.base != DEFAULT_HOST
    }

    /// Returns the host's address.
    pub(crate) fn address(&self) -> &str {
        &self.base
    }

    /// Sends a GET request.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.finish(self.run(Method::GET, path, &[], SendBody::none())?)
    }

    /// Requests all pages of a list and joins them: at most `items_max` items; `next` is not null
    /// if there are more.
    pub(crate) fn all(&self, path: &str, items_max: usize) -> Result<Value, Failure> {
        let mut items = Vec::new();
        let mut next = String::new();
        loop {
            let limit = (items_max - items.len()).min(crate::api::limits::PAGE_ITEMS_MAX as usize);
            let cursor = if next.is_empty() { String::new() } else { format!("&cursor={}", escape(&next)) };
            let separator = if path.contains('?') { '&' } else { '?' };
            let mut page = self.get(&format!("{path}{separator}limit={limit}{cursor}"))?.success()?;
            items.extend(page["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
            let previous = std::mem::replace(&mut next, output::field(&page, "next"));
            // A page of a filtered list may be empty, but each has another cursor.
            if next.is_empty() || next == previous || items.len() >= items_max {
                return Ok(json!({"items": items, "next": page["next"]}));
            }
        }
    }

    /// Sends a DELETE request.
    pub(crate) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.finish(self.run(Method::DELETE, path, &[], SendBody::none())?)
    }

    /// Sends JSON, or an empty body, with the given method.
    pub(crate) fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let text = body.map(Value::to_string).unwrap_or_default();
        self.send_text(method, path, "application/json", &text)
    }

    /// Sends text with the given media type.
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

    /// Sends `length` bytes while reading them from `body`. For a known idempotency key the host
    /// repeats its first response.
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

    /// Follows a stream of server-sent events. Fails if the response is not an event stream.
    pub(crate) fn follow(&self, path: &str) -> Result<Follow, Failure> {
        self.follow_after(path, None)
    }

    /// Follows a stream like [`Client::follow`], starting after the event `last_id`.
    pub(crate) fn follow_after(&self, path: &str, last_id: Option<&str>) -> Result<Follow, Failure> {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last_id.map(|id| ("last-event-id", id)));
        let response = self.run(Method::GET, path, &headers, SendBody::none())?;
        let streams = media_type(&response).starts_with("text/event-stream");
        if response.status().is_success() && is_of_api(&response) && streams {
            return Ok(Events::after(response.into_body().into_reader(), last_id));
        }
        self.finish(response)?.success()?;
        Err(Failure::new("the host did not respond with an event stream")
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
            Failure::usage("invalid request")
                .why(error)
                .next("check the host's address, the token and the names for invalid characters")
        })?;
        self.agent.run(request).map_err(|error| self.unreachable(&error))
    }

    fn finish(&self, mut response: Response<Body>) -> Result<Answer, Failure> {
        let (status, is_of_api) = (response.status(), is_of_api(&response));
        // Another server's body may have no end.
        if !is_of_api && !status.is_client_error() && !status.is_server_error() {
            return Err(self.is_not_a_host(status));
        }
        let raw = response.body_mut().with_config().limit(limits::RESPONSE_BYTES_MAX).lossy_utf8(true).read_to_string();
        let raw = raw.map_err(|error| self.unreachable(&error))?;
        let body: Value = serde_json::from_str(&raw).unwrap_or(Value::Null);
        if body["address"] == "traffic" {
            return Err(self.is_traffic_address());
        }
        // Other errors may come from a proxy before the host, and are shown.
        if !is_of_api && REFUSED_WITHOUT_API.contains(&status) {
            return Err(self.is_not_a_host(status));
        }
        Ok(Answer { status, raw, body })
    }

    fn is_not_a_host(&self, status: StatusCode) -> Failure {
        let header = response_rules::API;
        Failure::new(format!("the server at {} is not an Isopod host", self.base))
            .why(format!("it responded with status {} and without the header `{header}`", status.as_u16()))
            .next("set ISOPOD_HOST or --host to the API's address; a proxy must pass the header on")
    }

    fn is_traffic_address(&self) -> Failure {
        Failure::new(format!("{} is the address of app traffic", self.base))
            .why("commands use the API, which has its own address")
            .next(format!(
                "set ISOPOD_HOST or --host to the admin address: `admin=` in the line `isopod ready …` of the host, by \
                 default {DEFAULT_HOST}"
            ))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let failure = Failure::new(format!("cannot reach the host at {}", self.base));
        match error {
            ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
                failure.why("connection refused: nothing listens at this address").next(no_host())
            }
            ureq::Error::HostNotFound => failure.why("unknown host name").next("check --host or ISOPOD_HOST"),
            ureq::Error::Timeout(_) => failure.why("timed out").next("check that the host is healthy"),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => without_tls(failure.why(error)),
            // A response in plain HTTP is reported as a read error.
            ureq::Error::Io(io) if self.base.starts_with("https://") && io.kind() == ErrorKind::InvalidData => {
                without_tls(failure.why("the server at this address doesn't use TLS"))
            }
            other => {
                failure.why(other).next("check that the host runs and that --host or ISOPOD_HOST is its admin address")
            }
        }
    }
}

/// Returns the next step if no host listens. In the folder of a project, the host of `isopod dev`
/// may run at another address.
fn no_host() -> String {
    let near = std::fs::read_to_string(Path::new(DEV_DATA_DIR).join(DEV_ADDRESS)).ok();
    match near.filter(|address| answers(address)) {
        Some(address) => format!("use the host of `isopod dev` with --host {address}, or stop it and run `isopod up`"),
        None => "start a host with `isopod up`, or name another with --host or ISOPOD_HOST".to_owned(),
    }
}

/// The statuses that commands interpret, for example as an app that doesn't exist, and those of a
/// server without the API's methods.
const REFUSED_WITHOUT_API: [StatusCode; 4] =
    [StatusCode::NOT_FOUND, StatusCode::CONFLICT, StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED];

/// Returns whether the response comes from the API of a host.
fn is_of_api(response: &Response<Body>) -> bool {
    response.headers().contains_key(response_rules::API)
}

fn media_type(response: &Response<Body>) -> &str {
    response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default()
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
    let connector = DefaultConnector::default().chain(TolerantConnector);
    Agent::with_parts(times(settings).build(), connector, DefaultResolver::default())
}

fn without_tls(failure: Failure) -> Failure {
    failure.next("a host uses plain http: write --host http://…; https needs a proxy")
}

impl Answer {
    /// Returns the status, for callers that expect a refusal.
    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Returns the body as text.
    pub(crate) fn raw(&self) -> &str {
        &self.raw
    }

    /// Returns the body of a successful response; a problem becomes a failure.
    pub(crate) fn success(self) -> Result<Value, Failure> {
        if self.status.is_success() { Ok(self.body) } else { Err(self.failure()) }
    }

    /// Returns the response as a failure.
    pub(crate) fn failure(&self) -> Failure {
        Failure::from_answer(self.status.as_u16(), &self.body, &self.raw)
    }
}

/// Percent-encodes text for one segment of a path or one value of a query.
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
        let failure = Failure::usage(format!("invalid address of a host: `{address}`"));
        return Err(failure.next(format!("write it as {DEFAULT_HOST}")));
    };
    // The user name and the password may be secret, so they are not repeated.
    if let Some((_, host)) = authority.rsplit_once('@') {
        return Err(Failure::usage("the address of the host contains a user name")
            .why("a host accepts only tokens")
            .next(format!("write --host {scheme}://{host}, and the token in ISOPOD_TOKEN")));
    }
    let origin = format!("{scheme}://{authority}");
    if path.is_some_and(|path| path.as_str() != "/") || with_scheme.contains('#') {
        return Err(Failure::usage(format!("`{address}` has a path, but the address of a host has none"))
            .why("commands add the path of the API themselves")
            .next(format!("write --host {origin}")));
    }
    Ok(origin)
}

/// Returns whether a host listens at the address. A killed host leaves its address file behind.
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
    fn an_invalid_address_is_a_usage_error() {
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
    fn segments_of_a_path_are_escaped() {
        assert_eq!(escape("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }

    #[test]
    fn a_list_of_several_pages_is_read_to_its_end_or_to_the_limit() {
        let page = |items: Value, next: Value| (200, json!({"items": items, "next": next}));
        let host = FakeHost::responding([page(json!([1, 2]), json!("a b")), page(json!([3]), Value::Null)]);
        let client = host.app("shop").client;
        assert_eq!(client.all("/v1/apps", 1500).unwrap(), json!({"items": [1, 2, 3], "next": null}));
        let lines: Vec<String> = host.requests().into_iter().map(|request| request.line).collect();
        assert_eq!(lines, ["GET /v1/apps?limit=1000", "GET /v1/apps?limit=1000&cursor=a%20b"]);
        let host = FakeHost::responding([page(json!([1, 2]), json!("c"))]);
        let client = host.app("shop").client;
        assert_eq!(client.all("/v1/apps", 2).unwrap(), json!({"items": [1, 2], "next": "c"}));
    }

    /// Starts a server that sends this response to its first request, and returns its client.
    fn client_of_server(response: &'static str) -> Client {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            use std::io::{BufRead as _, Write as _};
            let (mut stream, _) = listener.accept().unwrap();
            let reader = std::io::BufReader::new(stream.try_clone().unwrap());
            let _ = reader.lines().map_while(Result::ok).find(String::is_empty);
            let _ = stream.write_all(response.as_bytes());
        });
        Client::open(&address, None, None).unwrap()
    }

    #[test]
    fn a_response_without_the_mark_of_the_api_is_not_of_a_host() {
        for response in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
        ] {
            let failures = [
                client_of_server(response).get("/v1/apps").err(),
                client_of_server(response).delete("/v1/apps/shop").err(),
                client_of_server(response).follow("/v1/apps/shop/logs?follow=true").err(),
            ];
            for failure in failures {
                let text = failure.expect(response).text();
                assert!(text.contains("is not an Isopod host") && text.contains("ISOPOD_HOST"), "{response}: {text}");
            }
        }
    }

    #[test]
    fn an_error_of_a_proxy_before_the_host_is_shown() {
        let client = client_of_server("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 9\r\n\r\nno origin");
        let text = client.get("/v1/apps").unwrap().success().unwrap_err().text();
        assert!(text.contains("502") && text.contains("no origin"), "{text}");
    }

    #[test]
    fn an_https_address_of_a_plain_host_is_explained() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 16]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        });
        let Err(failure) = Client::open(&address, None, None).unwrap().get("/v1/apps") else {
            panic!("the server doesn't use TLS")
        };
        assert!(failure.text().contains("plain http"), "{}", failure.text());
    }

    #[test]
    fn a_refused_connection_says_how_to_start_a_host() {
        // A port that was just closed almost certainly refuses connections.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::open(&format!("http://127.0.0.1:{port}"), None, None).unwrap();
        let Err(failure) = client.get("/v1/apps") else { panic!("port {port} should refuse connections") };
        assert!(format!("{failure:?}").contains("isopod up"), "{failure:?}");
    }
}
