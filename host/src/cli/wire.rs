//! The client's connections: like any other, but a host that stops taking a request is still listened to, since it has
//! most likely said why. It knows no route and reads no answer.

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Makes connections that go on listening when nothing can be sent any more.
#[derive(Debug)]
pub(crate) struct Listening;

impl Connector<Box<dyn Transport>> for Listening {
    type Out = Connection;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<Box<dyn Transport>>,
    ) -> Result<Option<Connection>, ureq::Error> {
        Ok(chained.map(|inner| Connection { inner, broken: Sending::Works }))
    }
}

/// One connection to a host.
#[derive(Debug)]
pub(crate) struct Connection {
    inner: Box<dyn Transport>,
    broken: Sending,
}

/// Whether anything can still be sent.
#[derive(Debug)]
enum Sending {
    Works,
    /// It broke off for this reason, which is told if there is no answer either.
    Broke(ureq::Error),
    /// It broke off, and the answer has begun to come.
    Answered,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        match self.broken {
            Sending::Works => {}
            // The rest of the request goes nowhere; what counts from now on is the answer.
            Sending::Broke(_) | Sending::Answered => return Ok(()),
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(error) if is_closed(&error) => {
                self.broken = Sending::Broke(error);
                Ok(())
            }
            other => other,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let came = self.inner.await_input(timeout);
        match (std::mem::replace(&mut self.broken, Sending::Answered), came) {
            (Sending::Works, came) => {
                self.broken = Sending::Works;
                came
            }
            (Sending::Broke(error), Ok(false) | Err(_)) => Err(error),
            (Sending::Broke(_) | Sending::Answered, came) => came,
        }
    }

    fn is_open(&mut self) -> bool {
        match self.broken {
            Sending::Works => self.inner.is_open(),
            Sending::Broke(_) | Sending::Answered => false,
        }
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Whether the other side has stopped reading, as opposed to being slow or unreachable.
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

    /// Far more than the buffers of a connection hold, so that sending it all is not possible.
    const BODY_BYTES: u64 = 32 * 1024 * 1024;

    /// A host that reads the beginning of a request, says this, and closes the connection.
    fn upload_to_host_that_says(words: &'static str) -> Result<super::super::client::Answer, String> {
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
    fn an_answer_that_comes_before_the_request_is_sent_is_heard() {
        let words = "HTTP/1.1 413 Too Large\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
            content-length: 51\r\n\r\n{\"title\":\"The body is too large\",\"detail\":\"64 MiB\"}";
        let answer = upload_to_host_that_says(words).unwrap_or_else(|text| panic!("not heard: {text}"));
        assert_eq!(
            (answer.status(), answer.failure().one_line().as_str()),
            (413, "The body is too large (413): 64 MiB")
        );
    }

    #[test]
    fn a_connection_that_breaks_without_an_answer_is_a_failure() {
        let Err(text) = upload_to_host_that_says("") else { panic!("there is no answer") };
        assert!(text.contains("cannot speak to the host"), "{text}");
    }
}
