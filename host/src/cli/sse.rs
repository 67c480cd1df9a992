//! Reads server-sent events from a stream: the `data` of each event, nothing else. It never reconnects.

use std::io::{BufRead, BufReader, Read};

use super::limits;

/// The events of one open stream.
pub(crate) struct Events<R> {
    reader: BufReader<R>,
}

impl<R: Read> Events<R> {
    /// Reads events from the body of an answer.
    pub(crate) fn new(body: R) -> Events<R> {
        Events { reader: BufReader::new(body) }
    }

    /// Waits for the next event with data; `None` when the stream has ended.
    fn read(&mut self) -> std::io::Result<Option<String>> {
        let mut data: Option<String> = None;
        let mut line = Vec::new();
        let mut total = 0;
        loop {
            line.clear();
            let room = (limits::STREAM_EVENT_BYTES_MAX - total) as u64;
            let read = (&mut self.reader).take(room).read_until(b'\n', &mut line)?;
            total += read;
            if read == 0 && total >= limits::STREAM_EVENT_BYTES_MAX {
                return Err(std::io::Error::other("the host sent an event that is too long"));
            }
            if read == 0 {
                return Ok(data);
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                if data.is_some() {
                    return Ok(data);
                }
                total = 0;
            } else if let Some(value) = text.strip_prefix("data:") {
                let value = value.strip_prefix(' ').unwrap_or(value);
                match &mut data {
                    Some(lines) => {
                        lines.push('\n');
                        lines.push_str(value);
                    }
                    None => data = Some(value.to_owned()),
                }
            }
        }
    }
}

impl<R: Read> Iterator for Events<R> {
    type Item = std::io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        Events::new(text.as_bytes()).map(Result::unwrap).collect()
    }

    #[test]
    fn events_are_split_at_empty_lines_and_comments_are_skipped() {
        assert_eq!(read(": hello\n\ndata: a\n\nevent: x\nid: 1\ndata:b\n\n: ping\n\n"), ["a", "b"]);
    }

    #[test]
    fn data_of_several_lines_is_joined() {
        assert_eq!(read("data: a\r\ndata: b\r\n\r\n"), ["a\nb"]);
    }

    #[test]
    fn an_event_cut_off_at_the_end_is_still_given() {
        assert_eq!(read("data: a\n"), ["a"]);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let endless = std::io::repeat(b'x');
        assert!(Events::new(endless).next().unwrap().is_err());
    }
}
