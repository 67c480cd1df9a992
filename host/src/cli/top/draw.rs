//! Draws the view: head, table, foot. The same view at the same time gives the same picture;
//! `detail` draws one app. Never changes the view.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::LineGauge;

use super::super::output;
use super::columns::{self, Fitted, Order, Tone, percent};
use super::detail;
use super::look::{Look, bold, passed};
use super::sample::{AppSample, Sample};
use super::view::{SampleError, Screen, View};

/// A longer gauge shows no more detail.
const GAUGE_WIDTH_MAX: u16 = 80;

/// Draws the whole view.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, look: Look, now: Duration) {
    let [head, body, foot] = parts(frame.area());
    draw_head(frame, head, view, look, now);
    match &view.screen {
        Screen::Table | Screen::Typing => frame.render_widget(table(view, body, look), body),
        Screen::Detail(name) => detail::draw(frame, body, view, name, look),
    }
    frame.render_widget(keys(view), foot);
}

/// Returns how many rows of the table fit on a terminal of this size.
pub(super) fn rows_in(area: Rect) -> usize {
    let [_, body, _] = parts(area);
    usize::from(body.height.saturating_sub(1))
}

/// Returns head, body and foot. A small terminal shows the apps rather than the head.
fn parts(area: Rect) -> [Rect; 3] {
    let head = match area.height {
        0..6 => 1,
        6..10 => 2,
        10..16 => 3,
        // With an empty line.
        _ => 4,
    };
    let foot = u16::from(area.height > 3);
    Layout::vertical([Constraint::Length(head), Constraint::Fill(1), Constraint::Length(foot)]).areas(area)
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View, look: Look, now: Duration) {
    let mut lines = area.rows();
    if let Some(line) = lines.next() {
        frame.render_widget(title(view, look, now), line);
    }
    if let Some(mut line) = lines.next() {
        line.width = line.width.min(GAUGE_WIDTH_MAX);
        frame.render_widget(gauge(&view.sample, look), line);
    }
    if let Some(line) = lines.next() {
        frame.render_widget(Line::from(host_facts(&view.sample).join("  ")), line);
    }
}

/// Returns the host's address, or why there is no newer sample.
fn title(view: &View, look: Look, now: Duration) -> Line<'static> {
    let elapsed = passed(now.saturating_sub(view.received_at));
    let address = &view.address;
    let error = match &view.error {
        Some(SampleError::Unreachable(why)) => format!("no response from {address} for {elapsed}, retrying: {why}"),
        Some(SampleError::Refused(why)) => format!("no sample from {address} for {elapsed}, retrying: {why}"),
        None => String::new(),
    };
    let mut spans = vec![Span::styled(error, look.tone(Tone::Bad))];
    if view.error.is_none() {
        spans = vec![Span::styled("isopod top", bold()), Span::raw(format!("  {address}"))];
    }
    if view.paused {
        spans.insert(0, Span::styled("paused  ", look.tone(Tone::Warning)));
    }
    if !view.filter.is_empty() {
        spans.push(Span::raw(format!("  filter: {}", view.filter)));
    }
    Line::from(spans)
}

fn gauge(sample: &Sample, look: Look) -> LineGauge<'static> {
    let all = f64::from(sample.host.cores.max(1)) * 100.0;
    let label = format!("CPU {:>5} % of {all} %", percent(sample.host.cpu_percent));
    LineGauge::default()
        .ratio((sample.host.cpu_percent / all).clamp(0.0, 1.0))
        .label(label)
        .filled_symbol("█")
        .unfilled_symbol("░")
        .filled_style(look.measure())
        .unfilled_style(look.tone(Tone::Quiet))
}

/// Returns the host's figures except those of its processors.
pub(super) fn host_facts(sample: &Sample) -> Vec<String> {
    let host = &sample.host;
    let mut facts = vec![
        format!("memory {}", output::size(host.memory_bytes)),
        format!("{} of {} apps awake", host.apps_awake, host.apps),
        format!("{} instance{}", host.instances, if host.instances == 1 { "" } else { "s" }),
        format!("{} buffered", host.buffered),
    ];
    if sample.has_more() {
        facts.push(format!("showing the busiest {}", sample.apps.len()));
    }
    facts
}

fn table(view: &View, area: Rect, look: Look) -> Text<'static> {
    let rows = view.rows();
    let (marked, top) = view.mark();
    let seen = rows.iter().enumerate().skip(top).take(usize::from(area.height.saturating_sub(1)));
    // Fitted to all rows, so that no column moves when the mark does.
    let fitted = columns::fitting(usize::from(area.width), &rows);
    let mut lines = vec![headings(&fitted, view.order, look)];
    for (at, app) in seen {
        let line = row(&fitted, app, look);
        lines.push(if at == marked { line.patch_style(Style::new().add_modifier(Modifier::REVERSED)) } else { line });
    }
    if rows.is_empty() {
        lines.push(Line::from(empty_text(view)).patch_style(look.tone(Tone::Quiet)));
    }
    Text::from(lines)
}

fn empty_text(view: &View) -> String {
    match view.filter.as_str() {
        "" => "no app is awake; a request or an event wakes one".to_owned(),
        filter => format!("no awake app matches `{filter}`; press Esc for all apps"),
    }
}

fn headings(fitted: &[Fitted], order: Order, look: Look) -> Line<'static> {
    let mut line = Line::default();
    for (at, Fitted { column, width }) in fitted.iter().enumerate() {
        let mark = match order {
            _ if column.order != Some(order) => "",
            Order::Name => "▲",
            Order::Cpu | Order::Memory | Order::Requests | Order::Latency => "▼",
        };
        let text = format!("{}{mark}", column.heading);
        let style = if mark.is_empty() { bold() } else { look.measure().patch(bold()) };
        place(&mut line, at, &text, *width, column.is_number, style);
    }
    line.patch_style(Style::new().add_modifier(Modifier::UNDERLINED))
}

fn row(fitted: &[Fitted], app: &AppSample, look: Look) -> Line<'static> {
    let mut line = Line::default();
    for (at, Fitted { column, width }) in fitted.iter().enumerate() {
        let cell = (column.cell)(app);
        place(&mut line, at, &cell.text, *width, column.is_number, look.tone(cell.tone));
    }
    line
}

/// Adds a cell to a line, cut or padded to its width.
fn place(line: &mut Line<'static>, at: usize, text: &str, width: usize, is_right: bool, style: Style) {
    if at > 0 {
        line.push_span(Span::raw(" ".repeat(columns::GAP)));
    }
    let text = cut(text, width);
    let fill = " ".repeat(width - Span::raw(&text).width());
    let [before, after] = if is_right { [fill, String::new()] } else { [String::new(), fill] };
    line.push_span(Span::raw(before));
    line.push_span(Span::styled(text, style));
    line.push_span(Span::raw(after));
}

/// Cuts text to a width, with a mark where text is missing.
fn cut(text: &str, width: usize) -> String {
    let mut cut = text.to_owned();
    if Span::raw(text).width() > width {
        // Characters may be two columns wide, so they are removed one at a time.
        while !cut.is_empty() && Span::raw(&cut).width() + 1 > width {
            cut.pop();
        }
        if width > 0 {
            cut.push('…');
        }
    }
    cut
}

/// Returns the keys of the current screen. The most important keys are first, since a narrow
/// terminal cuts the line.
fn keys(view: &View) -> Line<'static> {
    let pause = if view.paused { "resume" } else { "pause" };
    let keys: &[(&str, &str)] = match &view.screen {
        Screen::Typing => {
            let typed = format!("filter: {}▏  ", view.filter);
            return key_line(vec![Span::raw(typed)], &[("Enter", "keep"), ("Esc", "clear")]);
        }
        Screen::Detail(_) => &[("q", "quit"), ("Esc", "back"), ("p", pause)],
        Screen::Table => &[
            ("q", "quit"),
            ("↑↓", "move"),
            ("Enter", "details"),
            ("/", "filter"),
            ("p", pause),
            ("sort by c", "CPU"),
            ("m", "memory"),
            ("r", "requests"),
            ("l", "latency"),
            ("n", "name"),
        ],
    };
    key_line(Vec::new(), keys)
}

fn key_line(mut spans: Vec<Span<'static>>, keys: &[(&str, &str)]) -> Line<'static> {
    for (key, does) in keys {
        spans.push(Span::styled((*key).to_owned(), bold()));
        spans.push(Span::raw(format!(" {does}  ")));
    }
    Line::from(spans)
}

/// Pictures for tests.
#[cfg(test)]
pub(super) mod picture {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::*;

    pub(crate) const COLOURS: Look = Look { has_colour: true };
    pub(crate) const SHAPES: Look = Look { has_colour: false };

    /// Returns a picture of the view on a terminal of this size.
    pub(crate) fn buffer(view: &mut View, look: Look, [width, height]: [u16; 2], now: Duration) -> Buffer {
        view.set_page(rows_in(Rect::new(0, 0, width, height)));
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, look, now)).unwrap();
        terminal.backend().buffer().clone()
    }

    /// Returns the picture as text, without trailing spaces.
    pub(crate) fn text(view: &mut View, size: [u16; 2], now: Duration) -> String {
        let buffer = buffer(view, SHAPES, size, now);
        let mut text = String::new();
        for row in buffer.content.chunks(usize::from(size[0]).max(1)) {
            let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::sample::fixtures;
    use super::super::view::Key;
    use super::*;
    use ratatui::style::Color;

    const APPS: [(&str, u32); 3] = [("shop", 40), ("blog", 30), ("checkout-of-the-shop", 2)];

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn view_of(sample: Sample) -> View {
        View::new("http://127.0.0.1:8081", at(0), sample, None)
    }

    fn press(view: &mut View, text: &str) {
        for letter in text.chars() {
            view.key(if letter == '\n' { Key::Enter } else { Key::Letter(letter) });
        }
    }

    #[test]
    fn a_usual_terminal_shows_head_table_and_keys() {
        let expected = "\
isopod top  http://127.0.0.1:8081
CPU  87.0 % of 200 % █████████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
memory 1.2 GiB  3 of 12 apps awake  17 instances  3 buffered
APP                   STATE      INST   CPU%▼       MEM   PULL    P99   REQ/S
shop                  running       3    40.0  40.0 MiB   2/10    4.0   800.0
blog                  running       3    30.0  30.0 MiB   2/10    3.0   600.0
checkout-of-the-shop  running       3     2.0   2.0 MiB   2/10    0.2    40.0




q quit  ↑↓ move  Enter details  / filter  p pause  sort by c CPU  m memory  r re
";
        let shown = picture::text(&mut view_of(fixtures::list(&APPS)), [80, 12], at(0));
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_tiny_terminal_shows_the_busiest_apps() {
        let expected = "\
isopod top  http://1
APP            CPU%▼
shop            40.0
blog            30.0
q quit  ↑↓ move  Ent
";
        assert_eq!(picture::text(&mut view_of(fixtures::list(&APPS)), [20, 5], at(0)), expected);
    }

    #[test]
    fn a_huge_terminal_shows_every_column() {
        let shown = picture::text(&mut view_of(fixtures::list(&APPS)), [300, 100], at(0));
        let lines: Vec<&str> = shown.lines().collect();
        let headings: Vec<&str> = lines[4].split_whitespace().collect();
        assert_eq!(
            headings.join(" "),
            "APP TYPE STATE INST CPU%▼ MEM PULL BUF OLDEST P50 P95 P99 REQ/S PUSH BUF P99 EV/S STORED OLDEST"
        );
        let shop: Vec<&str> = lines[5].split_whitespace().collect();
        assert_eq!(
            shop.join(" "),
            "shop production running 3 40.0 40.0 MiB 2/10 0 - 0.4 2.0 4.0 800.0 0/10 4 - 0.0 0 -"
        );
        assert_eq!((lines.len(), lines[99].starts_with("q quit")), (100, true));
    }

    #[test]
    fn the_title_shows_how_long_a_host_is_unreachable() {
        let mut view = view_of(fixtures::list(&APPS));
        view.sample_failed(SampleError::Unreachable("connection refused".to_owned()));
        let title = |view: &mut View, seconds| {
            picture::text(view, [100, 12], at(seconds)).lines().next().unwrap_or_default().to_owned()
        };
        let expected = "no response from http://127.0.0.1:8081 for 3 s, retrying: connection refused";
        assert_eq!(title(&mut view, 3), expected);
        assert!(title(&mut view, 150).contains("for 2m30s"));
        view.sample_failed(SampleError::Refused("Unknown token (401)".to_owned()));
        assert!(title(&mut view, 3).starts_with("no sample from http://127.0.0.1:8081 for 3 s"));
        view.sample_received(at(4), fixtures::list(&APPS));
        assert_eq!(title(&mut view, 4), "isopod top  http://127.0.0.1:8081");
    }

    #[test]
    fn the_foot_shows_the_keys_of_the_screen() {
        let mut view = view_of(fixtures::list(&APPS));
        let foot =
            |view: &mut View| picture::text(view, [120, 20], at(0)).lines().last().unwrap_or_default().to_owned();
        let table = "q quit  ↑↓ move  Enter details  / filter  p pause  sort by c CPU  m memory  r requests  l \
            latency  n name";
        assert_eq!(foot(&mut view), table);
        press(&mut view, "/sho");
        assert_eq!(foot(&mut view), "filter: sho▏  Enter keep  Esc clear");
        press(&mut view, "\n\np");
        assert_eq!(foot(&mut view), "q quit  Esc back  p resume");
    }

    #[test]
    fn a_pause_and_a_filter_are_shown_in_the_head() {
        let mut view = view_of(fixtures::list(&APPS));
        press(&mut view, "/zz\np");
        let shown = picture::text(&mut view, [80, 12], at(0));
        assert!(shown.starts_with("paused  isopod top  http://127.0.0.1:8081  filter: zz\n"), "{shown}");
        assert!(shown.contains("no awake app matches `zz`; press Esc for all apps"), "{shown}");
        let shown = picture::text(&mut view_of(fixtures::list(&[])), [80, 12], at(0));
        assert!(shown.contains("no app is awake; a request or an event wakes one"), "{shown}");
    }

    #[test]
    fn the_head_shows_that_there_are_more_apps() {
        let mut value = fixtures::list_value(&APPS);
        value["next"] = json!("cursor");
        let shown = picture::text(&mut view_of(serde_json::from_value(value).unwrap()), [100, 20], at(0));
        assert!(shown.contains("showing the busiest 3"), "{shown}");
    }

    #[test]
    fn the_marked_row_is_reversed_and_visible() {
        let names: Vec<String> = (0..50).map(|at| format!("app-{at:02}")).collect();
        let apps: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let mut view = view_of(fixtures::list(&apps));
        view.key(Key::End);
        let size = [60, 12];
        let buffer = picture::buffer(&mut view, picture::SHAPES, size, at(0));
        let reversed: Vec<u16> =
            (0..size[1]).filter(|y| buffer[(0, *y)].modifier.contains(Modifier::REVERSED)).collect();
        assert_eq!(reversed, [10]);
        assert!(picture::text(&mut view, size, at(0)).lines().nth(10).is_some_and(|line| line.starts_with("app-49")));
    }

    /// Returns names that a host must not send.
    fn hostile() -> Sample {
        let mut value = fixtures::list_value(&[("a", 3), ("b", 2), ("c", 1)]);
        value["items"][0]["app"] = json!("a\u{1b}[2J\u{9b}31m\u{7}\r\n\u{202e}z");
        value["items"][1]["app"] = json!("漢字".repeat(100));
        value["items"][1]["state"] = json!("👩‍👩‍👧e\u{301}");
        value["items"][2]["pull"]["throughput_per_s"] = json!(1e300);
        value["items"][2]["cpu_percent"] = json!(-1e300);
        value["host"]["cores"] = json!(0);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn no_size_or_sample_breaks_the_picture_or_prints_control_characters() {
        let widths = [0, 1, 5, 20, 61, 160];
        let heights = [0, 1, 2, 4, 5, 9, 12, 17, 30];
        let sizes = widths.into_iter().flat_map(|width| heights.map(|height| [width, height]));
        for size in sizes.chain([[300, 100]]) {
            for keys in ["", "/a", "/zz", "\n"] {
                let mut view = view_of(hostile());
                press(&mut view, keys);
                view.sample_received(at(1), hostile());
                let buffer = picture::buffer(&mut view, picture::COLOURS, size, at(1));
                let steers = |cell: &ratatui::buffer::Cell| cell.symbol().contains(char::is_control);
                assert!(!buffer.content.iter().any(steers), "{size:?} {keys}");
            }
        }
    }

    #[test]
    fn without_colours_nothing_is_coloured() {
        let mut view = view_of(fixtures::list(&APPS));
        view.sample_failed(SampleError::Unreachable(String::new()));
        let has_colour = |view: &mut View, look| {
            let buffer = picture::buffer(view, look, [120, 30], at(0));
            buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
        };
        for keys in ["", "\n"] {
            press(&mut view, keys);
            assert!(has_colour(&mut view, picture::COLOURS) && !has_colour(&mut view, picture::SHAPES), "{keys}");
        }
    }

    #[test]
    fn a_cut_text_never_exceeds_its_width() {
        assert_eq!([0, 1, 3, 4].map(|width| cut("shop", width)), ["", "…", "sh…", "shop"]);
        assert_eq!([1, 2, 3, 4].map(|width| cut("漢字", width)), ["…", "…", "漢…", "漢字"]);
    }
}
