//! The loop of the live view, and all of it that touches the world: the terminal, the clock, and the threads that bring keys,
//! samples and signals. What they bring goes through one bounded channel to the view, which decides.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Rect, Size};

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::limits;
use super::ask;
use super::draw::{self, Look};
use super::sample::Sample;
use super::view::{Key, Next, Trouble, View};
use crate::config;

/// What the threads bring.
enum Message {
    Key(Key),
    Sample(Box<Sample>),
    Missed(Trouble),
    /// The terminal has another size now.
    Resized,
    /// Somebody wants the program to end.
    Stop,
}

/// The app that is looked at, which the asking thread has to know.
type LookedAt = Arc<Mutex<Option<String>>>;

/// Shows the view until the person leaves. The terminal is as it was afterwards, also after a failure or a panic.
pub(super) fn run(client: Client, first: Sample, app: Option<String>) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut view = View::new(client.address(), begun.elapsed(), first, app.clone());
    let looked_at: LookedAt = Arc::new(Mutex::new(app));
    let (sender, messages) = sync_channel(limits::TOP_MESSAGES_WAITING_MAX);
    listen_for_signals(sender.clone());
    let shown = ratatui::try_init().and_then(|mut terminal| {
        read_keys(sender.clone());
        take_samples(client, Arc::clone(&looked_at), sender);
        show(&mut terminal, &mut view, &messages, &looked_at, begun)
    });
    // Also where only a part of the terminal was taken over.
    ratatui::restore();
    shown.map_err(|error| {
        Failure::new("the terminal cannot be used").why(error).next("`isopod top --once` prints the table as text")
    })
}

fn show(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    messages: &Receiver<Message>,
    looked_at: &LookedAt,
    begun: Instant,
) -> std::io::Result<()> {
    let look = Look { has_colour: !config::no_colour() };
    loop {
        let Size { width, height } = terminal.size()?;
        view.has_room_for(draw::rows_in(Rect::new(0, 0, width, height)));
        terminal.draw(|frame| draw::draw(frame, view, look, begun.elapsed()))?;
        // At least once a second, since it says for how long a host has been silent.
        let first = match messages.recv_timeout(limits::TOP_SAMPLE_EVERY) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // What has come meanwhile needs one picture and not one each.
        for message in first.into_iter().chain(messages.try_iter()) {
            if take(view, message, begun).is_break() {
                return Ok(());
            }
        }
        *looked_at.lock().unwrap_or_else(PoisonError::into_inner) = view.detail().map(str::to_owned);
    }
}

fn take(view: &mut View, message: Message, begun: Instant) -> ControlFlow<()> {
    match message {
        Message::Key(key) => match view.key(key) {
            Next::Stay => {}
            Next::Leave => return ControlFlow::Break(()),
        },
        Message::Sample(sample) => view.heard(begun.elapsed(), *sample),
        Message::Missed(trouble) => view.missed(trouble),
        Message::Resized => {}
        Message::Stop => return ControlFlow::Break(()),
    }
    ControlFlow::Continue(())
}

/// Asks the host every second for as long as somebody listens.
fn take_samples(client: Client, looked_at: LookedAt, sender: SyncSender<Message>) {
    std::thread::spawn(move || {
        // The first sample is there already.
        let mut next = Instant::now() + limits::TOP_SAMPLE_EVERY;
        loop {
            // A slow answer makes the wait shorter, and one that took longer than that is not caught up with.
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now() + limits::TOP_SAMPLE_EVERY;
            let app = looked_at.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let message = match ask::sample(&client, app.as_deref()) {
                Ok(sample) => Message::Sample(Box::new(sample)),
                Err(miss) => Message::Missed(miss.into()),
            };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
}

/// Reads keys for as long as somebody listens. A terminal that gives none any more has gone.
fn read_keys(sender: SyncSender<Message>) {
    std::thread::spawn(move || {
        loop {
            let message = match event::read() {
                Ok(Event::Key(key)) => key_of(key).map(Message::Key),
                Ok(Event::Resize(..)) => Some(Message::Resized),
                Ok(Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_)) => None,
                Err(_) => Some(Message::Stop),
            };
            if message.is_some_and(|message| sender.send(message).is_err()) {
                return;
            }
        }
    });
}

/// The key that was pressed, if it is one that can mean something.
fn key_of(event: KeyEvent) -> Option<Key> {
    // Some terminals tell of keys that are let go as well.
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let held = event.modifiers.intersection(KeyModifiers::CONTROL | KeyModifiers::ALT);
    let key = match event.code {
        KeyCode::Char('c') if held == KeyModifiers::CONTROL => Key::Interrupt,
        KeyCode::Char(letter) if held.is_empty() => Key::Letter(letter),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    };
    Some(key)
}

/// Ends the view in order when the program is told to end, so that the terminal is left as it was.
fn listen_for_signals(sender: SyncSender<Message>) {
    use tokio::signal::unix::{SignalKind, signal};
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            let _ = sender.send(Message::Stop);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_chords_are_not_taken_for_letters() {
        let pressed = |code, modifiers| key_of(KeyEvent::new(code, modifiers));
        assert_eq!(pressed(KeyCode::Char('q'), KeyModifiers::NONE), Some(Key::Letter('q')));
        assert_eq!(pressed(KeyCode::Char('Q'), KeyModifiers::SHIFT), Some(Key::Letter('Q')));
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Interrupt));
        assert_eq!(pressed(KeyCode::Char('q'), KeyModifiers::CONTROL), None);
        assert_eq!(pressed(KeyCode::Char('q'), KeyModifiers::ALT), None);
        assert_eq!(pressed(KeyCode::F(1), KeyModifiers::NONE), None);
        let released = KeyEvent::new_with_kind(KeyCode::Enter, KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(key_of(released), None);
    }
}
