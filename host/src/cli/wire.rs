//! The client's connections. If the host stops reading a request, the connection still reads the
//! response, which most likely says why. Never knows a route or parses a response.

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Makes connections that still read a response after sending has failed.
#[derive(Debug)]
pub(crate) struct TolerantConnector;

impl Connector<Box<dyn Transport>> for TolerantConnector {
    type Out = Connection;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<Box<dyn Transport>>,
    ) -> Result<Option<Connection>, ureq::Error> {
        Ok(chained.map(|inner| Connection { inner, sending: SendState::Open }))
    }
}

/// One connection to a host.
#[derive(Debug)]
pub(crate) struct Connection {
    inner: Box<dyn Transport>,
    sending: SendState,
}

/// The state of sending on a connection.
#[derive(Debug)]
enum SendState {
    Open,
    /// Sending failed with this error, which is returned if there is no response either.
    Failed(ureq::Error),
    /// Sending failed, and the response has started to arrive.
    Responding,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        match self.sending {
            SendState::Open => {}
            // The rest of the request is discarded; only the response matters now.
            SendState::Failed(_) | SendState::Responding => return Ok(()),
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(error) if is_closed(&error) => {
                self.sending = SendState::Failed(error);
                Ok(())
            }
            other => other,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let arrived = self.inner.await_input(timeout);
        match (std::mem::replace(&mut self.sending, SendState::Responding), arrived) {
            (SendState::Open, arrived) => {
                self.sending = SendState::Open;
                arrived
            }
            (SendState::Failed(error), Ok(false) | Err(_)) => Err(error),
            (SendState::Failed(_) | SendState::Responding, arrived) => arrived,
        }
    }

    fn is_open(&mut self) -> bool {
        match self.sending {
            SendState::Open => self.inner.is_open(),
            SendState::Failed(_) | SendState::Responding => false,
        }
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Returns whether the peer has closed its end, as opposed to being slow or unreachable.
fn is_closed(error: &ureq::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        ureq::Error::Io(io) => {
            matches!(io.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::super::client::Client;

    /// Far more than a connection's buffers hold, so that the whole body can't be sent.
    const BODY_BYTES: u64 = 32 * 1024 * 1024;

    /// Uploads to a host that reads the start of the request, writes `words`, and closes the
    /// connection.
    fn upload_to_host_that_responds(words: &'static str) -> Result<super::super::client::Answer, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 64]).unwrap();
            stream.write_all(words.as_bytes()).unwrap();
        });
        let client = Client::open(&address, None, None).unwrap();
        let body = &mut std::io::Read::take(std::io::repeat(0), BODY_BYTES);
        client.upload("/v1/apps/shop/pushes", "application/wasm", None, BODY_BYTES, body).map_err(|f| f.text())
    }

    #[test]
    fn a_response_that_precedes_the_end_of_the_request_is_read() {
        let words = "HTTP/1.1 413 Too Large\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
            content-length: 51\r\n\r\n{\"title\":\"The body is too large\",\"detail\":\"64 MiB\"}";
        let answer = upload_to_host_that_responds(words).unwrap_or_else(|text| panic!("no response was read: {text}"));
        assert_eq!(
            (answer.status(), answer.failure().one_line().as_str()),
            (413, "The body is too large (413): 64 MiB")
        );
    }

    #[test]
    fn a_connection_that_breaks_without_a_response_is_a_failure() {
        let Err(text) = upload_to_host_that_responds("") else { panic!("there is no response") };
        assert!(text.contains("cannot reach the host"), "{text}");
    }
}
