//! Reads server-sent events from a stream: the `data` of each event, the newest `id`, and the
//! host's final event. Never reconnects.

use std::io::{BufRead, BufReader, Read};

use super::limits;

/// The events of one open stream.
pub(crate) struct Events<R> {
    reader: BufReader<R>,
    last_id: Option<String>,
    end: Option<String>,
}

/// The type of the host's final event, after which reconnecting is useless.
const END: &str = "end";

impl<R: Read> Events<R> {
    /// Reads events from a response's body; `last_id` is the id of the newest event received
    /// before.
    pub(crate) fn after(body: R, last_id: Option<&str>) -> Events<R> {
        Events { reader: BufReader::new(body), last_id: last_id.map(str::to_owned), end: None }
    }

    /// Returns the id of the newest event that had one.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Returns the data of the host's final event, after which reconnecting is useless.
    pub(crate) fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// Waits for the next event with data. Returns `None` when the stream has ended.
    fn read(&mut self) -> std::io::Result<Option<String>> {
        let mut data: Option<String> = None;
        let mut id = None;
        let mut is_end = false;
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
                if is_end {
                    self.end = Some(data.unwrap_or_default());
                    return Ok(None);
                }
                if data.is_some() {
                    self.last_id = id.or(self.last_id.take());
                    return Ok(data);
                }
                total = 0;
            } else if let Some(value) = text.strip_prefix("id:") {
                id = Some(value.trim_start().to_owned());
            } else if let Some(value) = text.strip_prefix("event:") {
                is_end = value.trim() == END;
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
        Events::after(text.as_bytes(), None).map(Result::unwrap).collect()
    }

    #[test]
    fn events_are_split_at_empty_lines_and_comments_are_skipped() {
        assert_eq!(read(": hello\n\ndata: a\n\nevent: x\nid: 1\ndata:b\n\n: ping\n\n"), ["a", "b"]);
    }

    #[test]
    fn the_id_of_the_newest_whole_event_is_kept() {
        let mut events = Events::after("data: a\nid: 1\n\ndata: b\n\nid: 3\ndata: c".as_bytes(), None);
        for (data, id) in [("a", "1"), ("b", "1"), ("c", "1")] {
            assert_eq!(events.next().unwrap().unwrap(), data);
            assert_eq!(events.last_id(), Some(id));
        }
        assert!(events.next().is_none());
        assert_eq!(Events::after(&b""[..], Some("7")).last_id(), Some("7"));
    }

    #[test]
    fn the_final_event_ends_the_stream_and_is_not_passed_on() {
        let mut events = Events::after("data: a\n\nevent: end\ndata: {}\n\n".as_bytes(), None);
        assert_eq!(events.next().unwrap().unwrap(), "a");
        assert!(events.next().is_none());
        assert_eq!(events.end(), Some("{}"));
        let mut cut_off = Events::after("data: a\n\n".as_bytes(), None);
        assert!(cut_off.next().is_some() && cut_off.next().is_none() && cut_off.end().is_none());
    }

    #[test]
    fn data_of_several_lines_is_joined() {
        assert_eq!(read("data: a\r\ndata: b\r\n\r\n"), ["a\nb"]);
    }

    #[test]
    fn an_event_cut_off_at_the_end_is_still_returned() {
        assert_eq!(read("data: a\n"), ["a"]);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let endless = std::io::repeat(b'x');
        assert!(Events::after(endless, None).next().unwrap().is_err());
    }
}
