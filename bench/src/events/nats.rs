//! NATS JetStream as a measured server: a stream in files that are synced before each
//! acknowledgement, and a consumer that acknowledges each message. Speaks as much of the protocol
//! as that needs. Never measures.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::queue::{Due, Progress, Queue, Sender, data};
use crate::server::{Server, free_address};

const STREAM: &str = "EVENTS";
const SUBJECT: &str = "events";
const CONSUMER: &str = "worker";

/// The number of connections, which gives each its own inbox.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// Messages that the consumer requests at a time.
const FETCHED: u64 = 500;

/// How long the consumer waits for a message, in nanoseconds.
const FETCH_NS: u64 = 50_000_000;

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Nats {
    address: SocketAddr,
    /// Stops the server on drop.
    _server: Server,
}

impl Nats {
    pub(super) fn start(program: &Path, folder: &Path) -> Result<Nats> {
        let address = free_address()?;
        let config = folder.join("nats.conf");
        let store = folder.join("jetstream");
        let text = format!("listen: \"{address}\"\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n");
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&config);
        let mut server = Server::start(command, &folder.join("nats.log"))?;
        server.wait_for_words("Server is ready")?;
        let mut connection = Connection::open(address)?;
        let stream = json!({ "name": STREAM, "subjects": [SUBJECT], "storage": "file", "retention": "workqueue" });
        connection.request(&format!("$JS.API.STREAM.CREATE.{STREAM}"), &stream.to_string())?;
        let config = json!({ "durable_name": CONSUMER, "ack_policy": "explicit", "max_ack_pending": 100_000 });
        let consumer = json!({ "stream_name": STREAM, "config": config });
        connection.request(&format!("$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.{CONSUMER}"), &consumer.to_string())?;
        Ok(Nats { address, _server: server })
    }
}

impl Queue for Nats {
    // Only `handle` starts a consumer.
    fn sender(&self, _: Due) -> Result<Box<dyn Sender>> {
        Ok(Box::new(Publisher { connection: Connection::open(self.address)?, data: data() }))
    }

    fn handle(&self, progress: &Progress) -> Result<()> {
        let mut connection = Connection::open(self.address)?;
        let fetch = json!({ "batch": FETCHED, "expires": FETCH_NS }).to_string();
        loop {
            let was_over = progress.is_over.load(Ordering::Acquire);
            connection.queue_request(&format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}"), &fetch);
            connection.flush()?;
            let mut fetched = 0;
            while fetched < FETCHED {
                let message = connection.message()?;
                // A status without a message ends the request.
                let Some(acknowledge) = message.reply.filter(|_| !message.is_status) else { break };
                connection.queue(&acknowledge, "", "+ACK");
                connection.flush()?;
                fetched += 1;
            }
            if was_over && fetched == 0 {
                return Ok(());
            }
        }
    }
}

struct Publisher {
    connection: Connection,
    data: String,
}

impl Sender for Publisher {
    fn send(&mut self, events: usize) -> Result<()> {
        for _ in 0..events {
            self.connection.queue_request(SUBJECT, &self.data);
        }
        self.connection.flush()?;
        (0..events).try_for_each(|_| self.connection.answer().map(drop))
    }
}

/// A connection whose replies arrive in one inbox.
struct Connection {
    reader: BufReader<TcpStream>,
    out: Vec<u8>,
    inbox: String,
}

struct Message {
    reply: Option<String>,
    is_status: bool,
    data: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).context("cannot connect to NATS")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let inbox = format!("_INBOX.{}", CONNECTIONS.fetch_add(1, Ordering::Relaxed));
        let mut connection = Connection { reader: BufReader::new(stream), out: Vec::new(), inbox };
        let options = json!({ "verbose": false, "pedantic": false, "headers": true, "no_responders": true });
        let inbox = &connection.inbox;
        connection.out.extend_from_slice(format!("CONNECT {options}\r\nSUB {inbox} 1\r\nPING\r\n").as_bytes());
        connection.flush()?;
        while connection.line()? != "PONG" {}
        Ok(connection)
    }

    /// Sends a request and returns its reply.
    fn request(&mut self, subject: &str, data: &str) -> Result<Value> {
        self.queue_request(subject, data);
        self.flush()?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value> {
        let message = self.message()?;
        let answer: Value = serde_json::from_slice(&message.data).context("NATS sent a reply that is not JSON")?;
        if !answer["error"].is_null() {
            bail!("NATS refused a request: {}", answer["error"]);
        }
        Ok(answer)
    }

    /// Queues a message whose reply goes to the inbox of this connection.
    fn queue_request(&mut self, subject: &str, data: &str) {
        let inbox = self.inbox.clone();
        self.queue(subject, &inbox, data);
    }

    fn queue(&mut self, subject: &str, reply: &str, data: &str) {
        let length = data.len();
        self.out.extend_from_slice(format!("PUB {subject} {reply} {length}\r\n{data}\r\n").as_bytes());
    }

    fn flush(&mut self) -> Result<()> {
        self.reader.get_mut().write_all(&self.out).context("cannot send to NATS")?;
        self.out.clear();
        Ok(())
    }

    /// Returns the next message.
    fn message(&mut self) -> Result<Message> {
        loop {
            let line = self.line()?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.first().copied() {
                Some("PING") => {
                    self.out.extend_from_slice(b"PONG\r\n");
                    self.flush()?;
                }
                Some("MSG") => return self.content(reply(&words, 4), 0, last(&words)?),
                Some("HMSG") => {
                    let head = words[words.len() - 2].parse().context("a bad length")?;
                    return self.content(reply(&words, 5), head, last(&words)?);
                }
                Some("-ERR") => bail!("NATS refused: {line}"),
                _ => {}
            }
        }
    }

    fn content(&mut self, reply: Option<String>, head: usize, length: usize) -> Result<Message> {
        let mut data = vec![0; length + 2];
        self.reader.read_exact(&mut data).context("NATS sent no complete message")?;
        data.truncate(length);
        let data = data.split_off(head);
        Ok(Message { reply, is_status: head > 0 && data.is_empty(), data })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("NATS sent no reply")? == 0 {
            bail!("NATS closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

/// Returns the reply subject of a message: the word after the subscription, if there are more words
/// than without it.
fn reply(words: &[&str], without: usize) -> Option<String> {
    (words.len() > without).then(|| words[3].to_owned())
}

fn last(words: &[&str]) -> Result<usize> {
    words.last().and_then(|word| word.parse().ok()).context("NATS sent a bad length")
}
