//! A host for tests: sends its prepared answers in order and records the requests. Never checks a
//! request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde_json::Value;

use super::client::Client;
use super::target::RemoteApp;
use crate::http::response_rules::API;

/// A host that sends prepared answers.
pub(crate) struct FakeHost {
    address: String,
    requests: Receiver<ReceivedRequest>,
}

/// One received request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReceivedRequest {
    /// The method and the path, such as `GET /v1/apps`.
    pub(crate) line: String,
    /// The headers, with their names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, if it was JSON.
    pub(crate) body: Value,
}

impl FakeHost {
    /// Starts a host that sends these answers, one per request, and then accepts no more.
    pub(crate) fn responding<const N: usize>(responses: [(u16, Value); N]) -> FakeHost {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = sync_channel(N);
        std::thread::spawn(move || {
            for (status, body) in responses {
                let Ok((stream, _)) = listener.accept() else { return };
                respond(stream, status, &body, &sender);
            }
        });
        FakeHost { address, requests }
    }

    /// Returns an app on this host.
    pub(crate) fn app(&self, name: &str) -> RemoteApp {
        RemoteApp::at(Client::open(&self.address, None, None).unwrap(), name)
    }

    /// Returns the requests since the last call.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.requests.try_iter().collect()
    }
}

fn respond(mut stream: TcpStream, status: u16, body: &Value, sender: &SyncSender<ReceivedRequest>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let line = lines.remove(0).replace(" HTTP/1.1", "");
    let split =
        |line: &String| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let headers: Vec<(String, String)> = lines.iter().filter_map(split).collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).unwrap();
    sender.send(ReceivedRequest { line, headers, body: serde_json::from_slice(&sent).unwrap_or_default() }).unwrap();
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\n{API}: v1\r\nconnection: close\r\n");
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
}
