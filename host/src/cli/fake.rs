//! A host for tests: answers each request with the next of its prepared answers and keeps what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde_json::Value;

use super::client::Client;
use super::target::RemoteApp;

/// A host that answers as it was told.
pub(crate) struct FakeHost {
    address: String,
    asked: Receiver<Asked>,
}

/// One request as it came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// The method and the path, such as `GET /v1/apps`.
    pub(crate) line: String,
    /// The names of the headers in small letters, with their values.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, if it was JSON.
    pub(crate) body: Value,
}

impl FakeHost {
    /// A host that gives these answers, one after another, and then none.
    pub(crate) fn answering<const N: usize>(answers: [(u16, Value); N]) -> FakeHost {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, asked) = sync_channel(N);
        std::thread::spawn(move || {
            for (status, body) in answers {
                let Ok((stream, _)) = listener.accept() else { return };
                answer(stream, status, &body, &sender);
            }
        });
        FakeHost { address, asked }
    }

    /// An app at this host.
    pub(crate) fn app(&self, name: &str) -> RemoteApp {
        RemoteApp::at(Client::open(&self.address, None, None).unwrap(), name)
    }

    /// What came since the last time this was asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }
}

fn answer(mut stream: TcpStream, status: u16, body: &Value, sender: &SyncSender<Asked>) {
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
    sender.send(Asked { line, headers, body: serde_json::from_slice(&sent).unwrap_or_default() }).unwrap();
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\nconnection: close\r\n");
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
}
