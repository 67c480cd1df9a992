//! The state of the view, and how each key and each sample changes it. Never draws, sends a request
//! or reads a clock, so that it can be tested without a terminal.

use std::time::Duration;

use super::super::limits;
use super::columns::Order;
use super::history::History;
use super::sample::{AppSample, Sample};

/// The current screen.
///
/// ```text
///               /                     Enter
///   Typing <───────── Table ─────────────────────> Detail
///          ─────────>       <─────────────────────
///      Enter keeps the          Esc, Backspace
///      filter, Esc clears it
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Screen {
    /// All apps, one row each.
    Table,
    /// All apps, while the filter is typed.
    Typing,
    /// One app by name.
    Detail(String),
}

/// A key, independent of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    Letter(char),
    /// Ctrl-C, which quits on every screen.
    Interrupt,
}

/// Whether the view continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Quit,
}

/// Why the last request gave no sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SampleError {
    /// The host doesn't respond.
    Unreachable(String),
    /// The host responds, but not with a sample.
    Refused(String),
}

#[derive(Debug)]
pub(super) struct View {
    /// The host's address.
    pub(super) address: String,
    pub(super) sample: Sample,
    pub(super) history: History,
    pub(super) screen: Screen,
    pub(super) order: Order,
    pub(super) filter: String,
    pub(super) paused: bool,
    /// The error of the last request, if it failed.
    pub(super) error: Option<SampleError>,
    /// When the last sample was received.
    pub(super) received_at: Duration,
    /// The marked app. The mark follows the app, not the row, so that Enter opens the app that the
    /// user sees marked.
    marked: Option<String>,
    /// The row of the mark, used if its app disappears.
    row: usize,
    /// The first visible row, and the number of visible rows.
    top: usize,
    page: usize,
}

impl View {
    /// Starts with a first sample, on the table or on one app.
    pub(super) fn new(address: &str, now: Duration, sample: Sample, app: Option<String>) -> View {
        let mut history = History::default();
        history.add(now, &sample);
        View {
            address: address.to_owned(),
            sample,
            history,
            screen: app.map_or(Screen::Table, Screen::Detail),
            order: Order::Cpu,
            filter: String::new(),
            paused: false,
            error: None,
            received_at: now,
            marked: None,
            row: 0,
            top: 0,
            page: 1,
        }
    }

    /// Applies a received sample. While paused, it only shows that the host responds.
    pub(super) fn sample_received(&mut self, now: Duration, sample: Sample) {
        self.error = None;
        self.received_at = now;
        if self.paused {
            return;
        }
        self.history.add(now, &sample);
        self.sample = sample;
        self.update_rows();
    }

    /// Records a failed request; the last sample stays visible.
    pub(super) fn sample_failed(&mut self, error: SampleError) {
        self.error = Some(error);
    }

    /// Sets the number of visible rows.
    pub(super) fn set_page(&mut self, rows: usize) {
        self.page = rows.max(1);
        self.update_rows();
    }

    pub(super) fn key(&mut self, key: Key) -> Next {
        match (&self.screen, key) {
            (_, Key::Interrupt) | (Screen::Table | Screen::Detail(_), Key::Letter('q')) => return Next::Quit,
            (Screen::Typing, key) => self.type_filter(key),
            (_, Key::Letter('p')) => self.paused = !self.paused,
            (Screen::Detail(_), Key::Escape | Key::Backspace) => self.screen = Screen::Table,
            (Screen::Detail(_), _) => {}
            (Screen::Table, key) => self.table_key(key),
        }
        self.update_rows();
        Next::Continue
    }

    /// Returns the apps that match the filter, sorted.
    pub(super) fn rows(&self) -> Vec<&AppSample> {
        let mut rows: Vec<&AppSample> = self.sample.apps.iter().filter(|app| app.name.contains(&self.filter)).collect();
        rows.sort_by(|a, b| self.order.compare(a, b));
        rows
    }

    /// Returns the row of the mark and the first visible row.
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.row, self.top)
    }

    /// Returns the app on the detail screen.
    pub(super) fn detail(&self) -> Option<&str> {
        match &self.screen {
            Screen::Detail(name) => Some(name),
            Screen::Table | Screen::Typing => None,
        }
    }

    fn table_key(&mut self, key: Key) {
        match key {
            Key::Up | Key::Letter('k') => self.mark_row(self.row.saturating_sub(1)),
            Key::Down | Key::Letter('j') => self.mark_row(self.row + 1),
            Key::PageUp => self.mark_row(self.row.saturating_sub(self.page)),
            Key::PageDown => self.mark_row(self.row + self.page),
            Key::Home => self.mark_row(0),
            Key::End => self.mark_row(usize::MAX),
            Key::Enter => self.open(),
            Key::Escape => self.filter.clear(),
            Key::Letter('/') => self.screen = Screen::Typing,
            Key::Letter('c') => self.order = Order::Cpu,
            Key::Letter('m') => self.order = Order::Memory,
            Key::Letter('r') => self.order = Order::Requests,
            Key::Letter('l') => self.order = Order::Latency,
            Key::Letter('n') => self.order = Order::Name,
            Key::Backspace | Key::Letter(_) | Key::Interrupt => {}
        }
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Letter(letter) if self.filter.chars().count() < limits::TOP_FILTER_CHARS_MAX => {
                // Names of apps contain only lower-case letters.
                self.filter.push(letter.to_ascii_lowercase());
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Enter => self.screen = Screen::Table,
            Key::Escape => {
                self.filter.clear();
                self.screen = Screen::Table;
            }
            _ => {}
        }
    }

    fn open(&mut self) {
        if let Some(app) = self.rows().get(self.row) {
            self.screen = Screen::Detail(app.name.clone());
        }
    }

    fn mark_row(&mut self, row: usize) {
        let rows = self.rows();
        let row = row.min(rows.len().saturating_sub(1));
        self.marked = rows.get(row).map(|app| app.name.clone());
    }

    /// Moves the mark to its app's new row, or to the app that now has its row, and scrolls the
    /// mark into view.
    fn update_rows(&mut self) {
        let rows = self.rows();
        let found = self.marked.as_ref().and_then(|name| rows.iter().position(|app| app.name == *name));
        let len = rows.len();
        let row = found.unwrap_or(self.row).min(len.saturating_sub(1));
        // Until the user moves the mark, it stays on the first row.
        let row = if self.marked.is_none() { 0 } else { row };
        if self.marked.is_some() && found.is_none() {
            self.marked = rows.get(row).map(|app| app.name.clone());
        }
        self.row = row;
        self.top = self.top.min(len.saturating_sub(self.page)).clamp((row + 1).saturating_sub(self.page), row);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{SelectedSample, fixtures};
    use super::*;

    const APPS: [(&str, u32); 4] = [("shop", 40), ("blog", 30), ("bot", 20), ("wiki", 10)];

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn view() -> View {
        let mut view = View::new("http://host", at(0), fixtures::list(&APPS), None);
        view.set_page(10);
        view
    }

    fn press(view: &mut View, keys: &[Key]) {
        for key in keys {
            assert_eq!(view.key(*key), Next::Continue, "{key:?}");
        }
    }

    fn type_text(view: &mut View, text: &str) {
        press(view, &text.chars().map(Key::Letter).collect::<Vec<_>>());
    }

    fn names(view: &View) -> Vec<&str> {
        view.rows().iter().map(|app| app.name.as_str()).collect()
    }

    fn marked(view: &View) -> &str {
        names(view)[view.mark().0]
    }

    #[test]
    fn the_busiest_app_is_first_until_a_key_changes_the_order() {
        let mut view = view();
        assert_eq!(names(&view), ["shop", "blog", "bot", "wiki"]);
        type_text(&mut view, "n");
        assert_eq!((view.order, names(&view)), (Order::Name, vec!["blog", "bot", "shop", "wiki"]));
        for (letter, order) in [('m', Order::Memory), ('r', Order::Requests), ('l', Order::Latency), ('c', Order::Cpu)]
        {
            press(&mut view, &[Key::Letter(letter)]);
            assert_eq!(view.order, order);
        }
    }

    #[test]
    fn arrows_and_j_and_k_move_the_mark_and_stop_at_the_ends() {
        let mut view = view();
        press(&mut view, &[Key::Down, Key::Letter('j')]);
        assert_eq!(marked(&view), "bot");
        press(&mut view, &[Key::Down, Key::Down, Key::Down]);
        assert_eq!(marked(&view), "wiki");
        press(&mut view, &[Key::Up, Key::Letter('k')]);
        assert_eq!(marked(&view), "blog");
        press(&mut view, &[Key::End]);
        assert_eq!(marked(&view), "wiki");
        press(&mut view, &[Key::Home, Key::Up]);
        assert_eq!(marked(&view), "shop");
    }

    #[test]
    fn the_window_follows_the_mark() {
        let mut view = view();
        view.set_page(2);
        press(&mut view, &[Key::PageDown]);
        assert_eq!((view.mark(), marked(&view)), ((2, 1), "bot"));
        press(&mut view, &[Key::End]);
        assert_eq!(view.mark(), (3, 2));
        press(&mut view, &[Key::PageUp]);
        assert_eq!(view.mark(), (1, 1));
        view.set_page(10);
        assert_eq!(view.mark(), (1, 0), "no row stays empty while apps precede the window");
        view.set_page(0);
        assert_eq!(view.mark(), (1, 1));
    }

    #[test]
    fn the_mark_stays_on_its_app_when_the_order_changes() {
        let mut view = view();
        press(&mut view, &[Key::Down]);
        view.sample_received(at(1), fixtures::list(&[("blog", 90), ("shop", 1), ("wiki", 5)]));
        assert_eq!((marked(&view), view.mark().0), ("blog", 0));
        type_text(&mut view, "n");
        assert_eq!(marked(&view), "blog");
    }

    #[test]
    fn a_mark_that_was_not_moved_stays_on_the_busiest_app() {
        let mut view = view();
        view.sample_received(at(1), fixtures::list(&[("wiki", 90), ("shop", 1)]));
        assert_eq!((marked(&view), view.mark().0), ("wiki", 0));
    }

    #[test]
    fn the_neighbour_of_a_frozen_marked_app_is_marked() {
        let mut view = view();
        press(&mut view, &[Key::End]);
        view.sample_received(at(1), fixtures::list(&APPS[..2]));
        assert_eq!(marked(&view), "blog");
        view.sample_received(at(2), fixtures::list(&[]));
        assert_eq!((names(&view).len(), view.mark()), (0, (0, 0)));
        press(&mut view, &[Key::Down, Key::PageDown, Key::End, Key::Enter]);
        assert_eq!(view.screen, Screen::Table, "there is nothing to open");
    }

    #[test]
    fn enter_opens_the_marked_app_and_escape_closes_it() {
        let mut view = view();
        press(&mut view, &[Key::Down, Key::Enter]);
        assert_eq!(view.detail(), Some("blog"));
        type_text(&mut view, "cmrln/jk");
        press(&mut view, &[Key::Up, Key::Down, Key::Home, Key::End, Key::Enter]);
        assert_eq!(
            (view.detail(), view.order),
            (Some("blog"), Order::Cpu),
            "the table's keys have no effect on the detail screen"
        );
        press(&mut view, &[Key::Escape]);
        assert_eq!((view.detail(), marked(&view)), (None, "blog"));
    }

    #[test]
    fn a_filter_is_typed_kept_and_cleared() {
        let mut view = view();
        press(&mut view, &[Key::Letter('/')]);
        type_text(&mut view, "Bq");
        assert_eq!(names(&view).len(), 0, "q is a letter of the filter");
        press(&mut view, &[Key::Backspace]);
        assert_eq!((names(&view), &view.screen), (vec!["blog", "bot"], &Screen::Typing));
        press(&mut view, &[Key::Enter]);
        assert_eq!((names(&view), &view.screen), (vec!["blog", "bot"], &Screen::Table));
        press(&mut view, &[Key::End, Key::Enter, Key::Escape]);
        assert_eq!(view.filter, "b", "the detail screen keeps the filter");
        press(&mut view, &[Key::Escape]);
        assert_eq!(names(&view).len(), 4);
        press(&mut view, &[Key::Letter('/'), Key::Letter('x'), Key::Escape]);
        assert_eq!((view.filter.as_str(), &view.screen), ("", &Screen::Table));
    }

    #[test]
    fn a_filter_has_a_maximum_length() {
        let mut view = view();
        press(&mut view, &[Key::Letter('/')]);
        type_text(&mut view, &"x".repeat(1000));
        assert_eq!(view.filter.len(), limits::TOP_FILTER_CHARS_MAX);
    }

    #[test]
    fn q_quits_and_ctrl_c_quits_even_while_typing() {
        assert_eq!(view().key(Key::Letter('q')), Next::Quit);
        let mut view = view();
        press(&mut view, &[Key::Enter]);
        assert_eq!(view.key(Key::Letter('q')), Next::Quit);
        press(&mut view, &[Key::Escape, Key::Letter('/')]);
        assert_eq!(view.key(Key::Interrupt), Next::Quit);
    }

    #[test]
    fn a_pause_keeps_the_sample_and_still_shows_whether_the_host_responds() {
        let mut view = view();
        type_text(&mut view, "p");
        view.sample_failed(SampleError::Unreachable("gone".to_owned()));
        assert!(view.error.is_some());
        view.sample_received(at(9), fixtures::list(&[("new", 1)]));
        assert_eq!((names(&view).len(), view.error.is_none(), view.received_at), (4, true, at(9)));
        type_text(&mut view, "p");
        view.sample_received(at(10), fixtures::list(&[("new", 1)]));
        assert_eq!(names(&view), ["new"]);
        let shop = view.history.columns("shop", 301, |point| Some(point.pull.per_s));
        assert_eq!(shop.len(), 11, "the time of the pause is a gap");
    }

    #[test]
    fn the_last_sample_stays_visible_while_the_host_is_unreachable() {
        let mut view = view();
        view.sample_failed(SampleError::Unreachable("connection refused".to_owned()));
        assert_eq!((names(&view).len(), view.received_at), (4, at(0)));
        view.sample_received(at(5), fixtures::list(&APPS[..1]));
        assert_eq!((view.error.is_none(), names(&view)), (true, vec!["shop"]));
    }

    #[test]
    fn an_app_that_is_not_awake_can_be_shown() {
        let mut sample = fixtures::list(&APPS);
        sample.selected = SelectedSample::App(Box::new(fixtures::app("asleep", 0)));
        let view = View::new("http://host", at(0), sample, Some("asleep".to_owned()));
        assert_eq!(view.detail(), Some("asleep"));
        assert!(view.sample.app("asleep").is_some());
        assert_eq!(names(&view).len(), 4, "the table lists only awake apps");
    }
}
