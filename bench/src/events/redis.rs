//! Redis as a measured server: a stream in an append-only file that is synced before each reply,
//! and a consumer group that acknowledges each entry. Speaks as much of the protocol as that needs.
//! Never measures.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::queue::{Due, Progress, Queue, Sender, data};
use crate::server::{Server, free_address};

const STREAM: &str = "events";
const GROUP: &str = "workers";

/// Entries that the consumer reads at a time.
const FETCHED: &str = "500";

/// How long the consumer waits for an entry, in milliseconds.
const FETCH_MS: &str = "50";

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Redis {
    address: SocketAddr,
    /// Stops the server on drop.
    _server: Server,
}

impl Redis {
    pub(super) fn start(program: &Path, folder: &Path) -> Result<Redis> {
        let address = free_address()?;
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder);
        let mut server = Server::start(command, &folder.join("redis.log"))?;
        server.wait_for_words("Ready to accept connections")?;
        Connection::open(address)?.call(&["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"])?;
        Ok(Redis { address, _server: server })
    }
}

impl Queue for Redis {
    // Only `handle` starts a consumer.
    fn sender(&self, _: Due) -> Result<Box<dyn Sender>> {
        Ok(Box::new(Producer { connection: Connection::open(self.address)?, data: data() }))
    }

    fn handle(&self, progress: &Progress) -> Result<()> {
        let mut connection = Connection::open(self.address)?;
        loop {
            let was_over = progress.is_over.load(Ordering::Acquire);
            let read = ["XREADGROUP", "GROUP", GROUP, "worker", "COUNT", FETCHED, "BLOCK", FETCH_MS];
            let read: Vec<&str> = read.into_iter().chain(["STREAMS", STREAM, ">"]).collect();
            let ids = entry_ids(&connection.call(&read)?);
            if ids.is_empty() {
                if was_over {
                    return Ok(());
                }
                continue;
            }
            // An acknowledgement and the removal of the entry, as the other servers do.
            for command in [&["XACK", STREAM, GROUP][..], &["XDEL", STREAM]] {
                let words: Vec<&str> = command.iter().copied().chain(ids.iter().map(String::as_str)).collect();
                connection.call(&words)?;
            }
        }
    }
}

struct Producer {
    connection: Connection,
    data: String,
}

impl Sender for Producer {
    fn send(&mut self, events: usize) -> Result<()> {
        for _ in 0..events {
            self.connection.queue(&["XADD", STREAM, "*", "data", &self.data]);
        }
        self.connection.flush()?;
        (0..events).try_for_each(|_| self.connection.reply().map(drop))
    }
}

struct Connection {
    reader: BufReader<TcpStream>,
    out: Vec<u8>,
}

/// A reply.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Text(String),
    Nothing,
    List(Vec<Reply>),
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).context("cannot connect to Redis")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Connection { reader: BufReader::new(stream), out: Vec::new() })
    }

    fn call(&mut self, words: &[&str]) -> Result<Reply> {
        self.queue(words);
        self.flush()?;
        self.reply()
    }

    fn queue(&mut self, words: &[&str]) {
        self.out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.reader.get_mut().write_all(&self.out).context("cannot send to Redis")?;
        self.out.clear();
        Ok(())
    }

    fn reply(&mut self) -> Result<Reply> {
        reply(&mut self.reader)
    }
}

fn reply(from: &mut impl BufRead) -> Result<Reply> {
    let mut line = String::new();
    from.read_line(&mut line).context("Redis sent no reply")?;
    let line = line.trim_end();
    let Some((kind, rest)) = line.split_at_checked(1) else { bail!("Redis closed the connection") };
    let length = || -> Result<Option<usize>> {
        let length: i64 = rest.parse().context("Redis sent a bad length")?;
        Ok(usize::try_from(length).ok())
    };
    match kind {
        "-" => bail!("Redis refused: {rest}"),
        "$" => {
            let Some(length) = length()? else { return Ok(Reply::Nothing) };
            let mut text = vec![0; length + 2];
            from.read_exact(&mut text).context("Redis sent no complete reply")?;
            text.truncate(length);
            Ok(Reply::Text(String::from_utf8_lossy(&text).into_owned()))
        }
        "*" => {
            let Some(length) = length()? else { return Ok(Reply::Nothing) };
            Ok(Reply::List((0..length).map(|_| reply(from)).collect::<Result<_>>()?))
        }
        _ => Ok(Reply::Text(rest.to_owned())),
    }
}

/// Returns the ids of the entries in a reply such as `[[stream, [[id, fields], …]]]`.
fn entry_ids(reply: &Reply) -> Vec<String> {
    let list = |reply: &Reply| -> Vec<String> {
        let Reply::List(parts) = reply else { return Vec::new() };
        let Some(Reply::List(entries)) = parts.get(1) else { return Vec::new() };
        let id = |entry: &Reply| match entry {
            Reply::List(parts) => match parts.first() {
                Some(Reply::Text(id)) => Some(id.clone()),
                _ => None,
            },
            _ => None,
        };
        entries.iter().filter_map(id).collect()
    };
    let Reply::List(streams) = reply else { return Vec::new() };
    streams.iter().flat_map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_read_entries_are_found() {
        let mut bytes: &[u8] = b"*1\r\n*2\r\n$6\r\nevents\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$4\r\ndata\r\n$1\r\nx\r\n\
                                 *2\r\n$3\r\n2-0\r\n*0\r\n";
        assert_eq!(entry_ids(&reply(&mut bytes).expect("a reply")), ["1-0", "2-0"]);
        assert_eq!(entry_ids(&reply(&mut b"*-1\r\n".as_slice()).expect("a reply")), [""; 0]);
        assert!(reply(&mut b"-ERR no\r\n".as_slice()).is_err());
    }
}
