//! The loop of the live view, and everything in it with effects: the terminal, the clock, and the
//! threads for keys, samples and signals. They send messages through one bounded channel. Never
//! decides what a message changes; the view does.

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
use super::fetch;
use super::sample::Sample;
use super::view::{Key, Next, SampleError, View};
use super::{draw, look::Look};
use crate::config;

/// A message from one of the threads.
enum Message {
    Key(Key),
    Sample(Box<Sample>),
    Failed(SampleError),
    /// The terminal's size has changed.
    Resized,
    /// A signal asks the program to stop.
    Stop,
}

/// The app on the detail screen, shared with the thread that requests samples.
type SelectedApp = Arc<Mutex<Option<String>>>;

/// Shows the view until the user quits. Restores the terminal afterwards, also after a failure or a
/// panic.
pub(super) fn run(client: Client, first: Sample, app: Option<String>) -> Result<(), Failure> {
    let start = Instant::now();
    let mut view = View::new(client.address(), start.elapsed(), first, app.clone());
    let selected: SelectedApp = Arc::new(Mutex::new(app));
    let (sender, messages) = sync_channel(limits::TOP_MESSAGES_WAITING_MAX);
    listen_for_signals(sender.clone());
    let shown = ratatui::try_init().and_then(|mut terminal| {
        read_keys(sender.clone());
        request_samples(client, Arc::clone(&selected), sender);
        show(&mut terminal, &mut view, &messages, &selected, start)
    });
    // Also restores a terminal that was only partly taken over.
    ratatui::restore();
    shown.map_err(|error| {
        Failure::new("can't use the terminal").why(error).next("`isopod top --once` prints the table as text")
    })
}

fn show(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    messages: &Receiver<Message>,
    selected: &SelectedApp,
    start: Instant,
) -> std::io::Result<()> {
    let look = Look { has_colour: !config::no_colour() };
    loop {
        let Size { width, height } = terminal.size()?;
        view.set_page(draw::rows_in(Rect::new(0, 0, width, height)));
        terminal.draw(|frame| draw::draw(frame, view, look, start.elapsed()))?;
        // Redraw at least once a second, since the title shows for how long the host has been
        // unreachable.
        let first = match messages.recv_timeout(limits::TOP_SAMPLE_EVERY) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // All queued messages need only one redraw.
        for message in first.into_iter().chain(messages.try_iter()) {
            if apply(view, message, start).is_break() {
                return Ok(());
            }
        }
        *selected.lock().unwrap_or_else(PoisonError::into_inner) = view.detail().map(str::to_owned);
    }
}

fn apply(view: &mut View, message: Message, start: Instant) -> ControlFlow<()> {
    match message {
        Message::Key(key) => match view.key(key) {
            Next::Continue => {}
            Next::Quit => return ControlFlow::Break(()),
        },
        Message::Sample(sample) => view.sample_received(start.elapsed(), *sample),
        Message::Failed(error) => view.sample_failed(error),
        Message::Resized => {}
        Message::Stop => return ControlFlow::Break(()),
    }
    ControlFlow::Continue(())
}

/// Requests a sample every second until the view ends.
fn request_samples(client: Client, selected: SelectedApp, sender: SyncSender<Message>) {
    std::thread::spawn(move || {
        // The first sample was already requested.
        let mut next = Instant::now() + limits::TOP_SAMPLE_EVERY;
        loop {
            // A slow response shortens the next wait; missed samples are not made up for.
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now() + limits::TOP_SAMPLE_EVERY;
            let app = selected.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let message = match fetch::sample(&client, app.as_deref()) {
                Ok(sample) => Message::Sample(Box::new(sample)),
                Err(error) => Message::Failed(error.into()),
            };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
}

/// Reads keys until the view ends. A read error means that the terminal is closed.
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

/// Returns the pressed key, if the view uses it.
fn key_of(event: KeyEvent) -> Option<Key> {
    // Some terminals also report released keys.
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let modifiers = event.modifiers.intersection(KeyModifiers::CONTROL | KeyModifiers::ALT);
    let key = match event.code {
        KeyCode::Char('c') if modifiers == KeyModifiers::CONTROL => Key::Interrupt,
        KeyCode::Char(letter) if modifiers.is_empty() => Key::Letter(letter),
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

/// Ends the view in order on a stop signal, so that the terminal is restored.
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
    fn keys_are_read_and_chords_are_not_letters() {
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
