//! Owns a scripted name server: the test's function chooses each answer. Counts the received
//! queries. Supports only single address queries over UDP.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
};

/// The server's answer to a query.
#[derive(Debug, Clone)]
pub enum Says {
    /// No answer.
    Nothing,
    /// No such name.
    NoSuchName,
    /// The addresses of the queried kind.
    Addresses(Vec<IpAddr>),
}

/// The server. It runs until the test's process ends.
pub struct NameServer {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

const ADDRESS_V4: u16 = 1;
const ADDRESS_V6: u16 = 28;
const SECONDS_TO_LIVE: u32 = 60;

impl NameServer {
    /// Starts one.
    ///
    /// # Panics
    /// If no port is free.
    pub fn start(script: impl Fn(&str) -> Says + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("it has an address");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let shared = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((read, client)) = socket.recv_from(&mut query) {
                let Some((name, kind, question)) = question(&query[..read]) else { continue };
                shared.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
                if let Some(reply) = reply(&query[..2], question, kind, script(&name)) {
                    let _ = socket.send_to(&reply, client);
                }
            }
        });
        Self { address, asked }
    }

    /// The queried names so far, with repetitions.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns the name and record type of a query, and its question section verbatim.
fn question(query: &[u8]) -> Option<(String, u16, &[u8])> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, query.get(12..at + 4)?))
}

fn reply(id: &[u8], question: &[u8], kind: u16, says: Says) -> Option<Vec<u8>> {
    let (code, answers) = match says {
        Says::Nothing => return None,
        Says::NoSuchName => (3, Vec::new()),
        Says::Addresses(addresses) => (0, addresses),
    };
    let records: Vec<Vec<u8>> = answers
        .into_iter()
        .filter_map(|address| match address {
            IpAddr::V4(v4) if kind == ADDRESS_V4 => Some(record(ADDRESS_V4, &v4.octets())),
            IpAddr::V6(v6) if kind == ADDRESS_V6 => Some(record(ADDRESS_V6, &v6.octets())),
            _ => None,
        })
        .collect();
    let count = u8::try_from(records.len()).ok()?;
    // A negative answer has a start-of-authority record with its time to live.
    let authority =
        if count == 0 { vec![record(6, &[&[0, 0][..], &[0, 0, 0, 60].repeat(5)].concat())] } else { Vec::new() };
    let mut reply = id.to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, u8::from(count == 0), 0, 0]);
    reply.extend_from_slice(question);
    records.into_iter().chain(authority).for_each(|record| reply.extend(record));
    Some(reply)
}

/// A record of the queried name.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(SECONDS_TO_LIVE.to_be_bytes());
    record.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    record.extend_from_slice(data);
    record
}
