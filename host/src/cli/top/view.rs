//! What a person has before them, and what each key and each sample changes of it. It draws nothing, asks nobody and has no
//! clock, so that all of it can be tested as facts.

use std::time::Duration;

use super::super::limits;
use super::columns::Order;
use super::history::History;
use super::sample::{AppSample, Sample};

/// Where the person is.
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
    /// All apps, a row each.
    Table,
    /// The same, while the filter is typed.
    Typing,
    /// One app, by its name.
    Detail(String),
}

/// A key, whatever terminal it comes from.
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
    /// Ctrl-C, which leaves from wherever one is.
    Interrupt,
}

/// Whether the view goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Leave,
}

/// Why there is no sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody answers.
    NoAnswer(String),
    /// Something answers, but with no sample.
    Refused(String),
}

#[derive(Debug)]
pub(super) struct View {
    /// The host's, for people.
    pub(super) address: String,
    pub(super) sample: Sample,
    pub(super) history: History,
    pub(super) screen: Screen,
    pub(super) order: Order,
    pub(super) filter: String,
    pub(super) paused: bool,
    /// Why the last attempt gave no sample.
    pub(super) trouble: Option<Trouble>,
    /// When the last sample came.
    pub(super) heard_at: Duration,
    /// The app that the mark is on. It follows the app and not the row, so that Enter never opens another one than was meant.
    marked: Option<String>,
    /// The row of the mark, for when its app goes away.
    row: usize,
    /// The first row that is seen, and how many there is room for.
    top: usize,
    page: usize,
}

impl View {
    /// Begins with a first sample, at the table or at one app.
    pub(super) fn new(address: &str, now: Duration, sample: Sample, app: Option<String>) -> View {
        let mut history = History::default();
        history.take(now, &sample);
        View {
            address: address.to_owned(),
            sample,
            history,
            screen: app.map_or(Screen::Table, Screen::Detail),
            order: Order::Cpu,
            filter: String::new(),
            paused: false,
            trouble: None,
            heard_at: now,
            marked: None,
            row: 0,
            top: 0,
            page: 1,
        }
    }

    /// A sample has come. While the picture stands still it only shows that the host is there.
    pub(super) fn heard(&mut self, now: Duration, sample: Sample) {
        self.trouble = None;
        self.heard_at = now;
        if self.paused {
            return;
        }
        self.history.take(now, &sample);
        self.sample = sample;
        self.settle();
    }

    /// An attempt gave none; what was seen last stays.
    pub(super) fn missed(&mut self, trouble: Trouble) {
        self.trouble = Some(trouble);
    }

    /// There is room for so many rows.
    pub(super) fn has_room_for(&mut self, rows: usize) {
        self.page = rows.max(1);
        self.settle();
    }

    pub(super) fn key(&mut self, key: Key) -> Next {
        match (&self.screen, key) {
            (_, Key::Interrupt) | (Screen::Table | Screen::Detail(_), Key::Letter('q')) => return Next::Leave,
            (Screen::Typing, key) => self.type_filter(key),
            (_, Key::Letter('p')) => self.paused = !self.paused,
            (Screen::Detail(_), Key::Escape | Key::Backspace) => self.screen = Screen::Table,
            (Screen::Detail(_), _) => {}
            (Screen::Table, key) => self.table_key(key),
        }
        self.settle();
        Next::Stay
    }

    /// The apps that pass the filter, sorted.
    pub(super) fn rows(&self) -> Vec<&AppSample> {
        let mut rows: Vec<&AppSample> = self.sample.apps.iter().filter(|app| app.name.contains(&self.filter)).collect();
        rows.sort_by(|a, b| self.order.compare(a, b));
        rows
    }

    /// The row of the mark, and the first that is seen.
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.row, self.top)
    }

    /// The app whose detail is shown.
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
                // Names of apps have small letters only.
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

    /// Finds the marked app's row again, or the one that took its place, and moves the window so that it is seen.
    fn settle(&mut self) {
        let rows = self.rows();
        let found = self.marked.as_ref().and_then(|name| rows.iter().position(|app| app.name == *name));
        let len = rows.len();
        let row = found.unwrap_or(self.row).min(len.saturating_sub(1));
        // Until somebody moves it, the mark is on whatever is first; and so it is when nothing is left to follow.
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
    use super::super::sample::{Apart, made};
    use super::*;

    const APPS: [(&str, u32); 4] = [("shop", 40), ("blog", 30), ("bot", 20), ("wiki", 10)];

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn view() -> View {
        let mut view = View::new("http://host", at(0), made::list(&APPS), None);
        view.has_room_for(10);
        view
    }

    fn press(view: &mut View, keys: &[Key]) {
        for key in keys {
            assert_eq!(view.key(*key), Next::Stay, "{key:?}");
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
    fn the_busiest_app_is_first_until_a_key_says_otherwise() {
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
        view.has_room_for(2);
        press(&mut view, &[Key::PageDown]);
        assert_eq!((view.mark(), marked(&view)), ((2, 1), "bot"));
        press(&mut view, &[Key::End]);
        assert_eq!(view.mark(), (3, 2));
        press(&mut view, &[Key::PageUp]);
        assert_eq!(view.mark(), (1, 1));
        view.has_room_for(10);
        assert_eq!(view.mark(), (1, 0), "no row is left empty while there are apps above");
        view.has_room_for(0);
        assert_eq!(view.mark(), (1, 1));
    }

    #[test]
    fn the_mark_stays_on_its_app_when_the_order_changes() {
        let mut view = view();
        press(&mut view, &[Key::Down]);
        view.heard(at(1), made::list(&[("blog", 90), ("shop", 1), ("wiki", 5)]));
        assert_eq!((marked(&view), view.mark().0), ("blog", 0));
        type_text(&mut view, "n");
        assert_eq!(marked(&view), "blog");
    }

    #[test]
    fn an_untouched_mark_stays_on_the_busiest() {
        let mut view = view();
        view.heard(at(1), made::list(&[("wiki", 90), ("shop", 1)]));
        assert_eq!((marked(&view), view.mark().0), ("wiki", 0));
    }

    #[test]
    fn when_the_marked_app_falls_asleep_its_neighbour_is_marked() {
        let mut view = view();
        press(&mut view, &[Key::End]);
        view.heard(at(1), made::list(&APPS[..2]));
        assert_eq!(marked(&view), "blog");
        view.heard(at(2), made::list(&[]));
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
        assert_eq!((view.detail(), view.order), (Some("blog"), Order::Cpu), "keys of the table do nothing here");
        press(&mut view, &[Key::Escape]);
        assert_eq!((view.detail(), marked(&view)), (None, "blog"));
    }

    #[test]
    fn a_filter_is_typed_kept_and_cleared() {
        let mut view = view();
        press(&mut view, &[Key::Letter('/')]);
        type_text(&mut view, "Bq");
        assert_eq!(names(&view).len(), 0, "q is a letter here");
        press(&mut view, &[Key::Backspace]);
        assert_eq!((names(&view), &view.screen), (vec!["blog", "bot"], &Screen::Typing));
        press(&mut view, &[Key::Enter]);
        assert_eq!((names(&view), &view.screen), (vec!["blog", "bot"], &Screen::Table));
        press(&mut view, &[Key::End, Key::Enter, Key::Escape]);
        assert_eq!(view.filter, "b", "the filter outlives a look at one app");
        press(&mut view, &[Key::Escape]);
        assert_eq!(names(&view).len(), 4);
        press(&mut view, &[Key::Letter('/'), Key::Letter('x'), Key::Escape]);
        assert_eq!((view.filter.as_str(), &view.screen), ("", &Screen::Table));
    }

    #[test]
    fn a_filter_has_an_end() {
        let mut view = view();
        press(&mut view, &[Key::Letter('/')]);
        type_text(&mut view, &"x".repeat(1000));
        assert_eq!(view.filter.len(), limits::TOP_FILTER_CHARS_MAX);
    }

    #[test]
    fn q_leaves_and_ctrl_c_leaves_even_while_typing() {
        assert_eq!(view().key(Key::Letter('q')), Next::Leave);
        let mut view = view();
        press(&mut view, &[Key::Enter]);
        assert_eq!(view.key(Key::Letter('q')), Next::Leave);
        press(&mut view, &[Key::Escape, Key::Letter('/')]);
        assert_eq!(view.key(Key::Interrupt), Next::Leave);
    }

    #[test]
    fn a_pause_keeps_the_picture_and_still_tells_whether_the_host_is_there() {
        let mut view = view();
        type_text(&mut view, "p");
        view.missed(Trouble::NoAnswer("gone".to_owned()));
        assert!(view.trouble.is_some());
        view.heard(at(9), made::list(&[("new", 1)]));
        assert_eq!((names(&view).len(), view.trouble.is_none(), view.heard_at), (4, true, at(9)));
        type_text(&mut view, "p");
        view.heard(at(10), made::list(&[("new", 1)]));
        assert_eq!(names(&view), ["new"]);
        let shop = view.history.columns("shop", 301, |point| Some(point.pull.per_s));
        assert_eq!(shop.len(), 11, "what went by in the pause is a gap");
    }

    #[test]
    fn a_host_that_goes_away_leaves_what_was_seen_and_comes_back() {
        let mut view = view();
        view.missed(Trouble::NoAnswer("nothing listens there".to_owned()));
        assert_eq!((names(&view).len(), view.heard_at), (4, at(0)));
        view.heard(at(5), made::list(&APPS[..1]));
        assert_eq!((view.trouble.is_none(), names(&view)), (true, vec!["shop"]));
    }

    #[test]
    fn an_app_that_is_not_awake_is_looked_at_all_the_same() {
        let mut sample = made::list(&APPS);
        sample.apart = Apart::App(Box::new(made::app("asleep", 0)));
        let view = View::new("http://host", at(0), sample, Some("asleep".to_owned()));
        assert_eq!(view.detail(), Some("asleep"));
        assert!(view.sample.app("asleep").is_some());
        assert_eq!(names(&view).len(), 4, "it is no row of the awake ones");
    }
}
