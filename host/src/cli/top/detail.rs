//! Draws one app: its figures, its two queues, and for each queue charts of the last minutes:
//! throughput, latency and buffered jobs. Never changes the view.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{RenderDirection, Sparkline};

use super::super::{limits, output};
use super::columns::{Tone, count, millis, percent};
use super::history::{Measure, Point};
use super::look::{Look, bold, passed};
use super::sample::{AppSample, QueueSample};
use super::view::View;

/// From this width on, the queues are side by side.
const WIDTH_FOR_TWO: u16 = 160;
/// A higher chart shows no more detail.
const CHART_HEIGHT_MAX: u16 = 6;
/// The width of a chart's label: its name and its peak, or only the name if the area is narrow.
const LABEL_WIDTH: u16 = 24;
const LABEL_WIDTH_NARROW: u16 = 11;
const WIDTH_FOR_PEAKS: u16 = 60;

/// One of the two queues, and the unit of its throughput.
struct Queue<'a> {
    title: &'static str,
    passes: &'static str,
    sample: &'a QueueSample,
    measure: fn(&Point) -> &Measure,
}

/// One figure of a queue over the last minutes.
struct Chart {
    name: &'static str,
    figure: fn(&Measure) -> Option<f64>,
    shown: fn(f64) -> String,
}

/// Returns the charts of a queue; `passes` is the unit of its throughput.
fn charts(passes: &'static str) -> [Chart; 3] {
    [
        Chart { name: passes, figure: |measure| Some(measure.per_s), shown: count },
        Chart { name: "p99 ms", figure: |measure| measure.p99_ms, shown: |ms| millis(Some(ms)) },
        Chart { name: "buffered", figure: |measure| Some(measure.buffered as f64), shown: |n| format!("{n:.0}") },
    ]
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, view: &View, name: &str, look: Look) {
    let Some(app) = view.sample.app(name) else {
        frame.render_widget(Line::from(absent(view, name)), area);
        return;
    };
    let facts_height = if area.height < 12 { 2 } else { 4 };
    let [facts, queues] = Layout::vertical([Constraint::Length(facts_height), Constraint::Fill(1)]).areas(area);
    for (line, row) in app_facts(app, view, look).into_iter().zip(facts.rows()) {
        frame.render_widget(line, row);
    }
    let pull = Queue { title: "PULL", passes: "requests/s", sample: &app.pull, measure: |point| &point.pull };
    let push = Queue { title: "PUSH", passes: "events/s", sample: &app.push, measure: |point| &point.push };
    let halves = [Constraint::Fill(1), Constraint::Fill(1)];
    let [left, right] = if area.width >= WIDTH_FOR_TWO {
        Layout::horizontal(halves).spacing(2).areas(queues)
    } else {
        Layout::vertical(halves).areas(queues)
    };
    draw_queue(frame, left, view, name, &pull, look);
    draw_queue(frame, right, view, name, &push, look);
}

fn absent(view: &View, name: &str) -> String {
    if view.sample.is_unknown(name) {
        format!("the app {name} no longer exists; press Esc for all apps")
    } else {
        format!("{name} is not awake; loading its figures")
    }
}

/// Returns the app's name and state, its usage, and the time span of the charts, most important
/// first.
fn app_facts(app: &AppSample, view: &View, look: Look) -> [Line<'static>; 3] {
    let tone = if app.state == "running" { Tone::Plain } else { Tone::Warning };
    let identity = Line::from(vec![
        Span::styled(app.name.clone(), bold()),
        Span::raw(format!("  {}  ", app.kind)),
        Span::styled(app.state.clone(), look.tone(tone)),
    ]);
    let usage = format!(
        "CPU {} %  memory {}  {} instances  {} of CPU time",
        percent(app.cpu_percent),
        output::size(app.memory_bytes),
        app.instances,
        app.cpu_time()
    );
    let span = passed(view.history.span());
    let time_span = Line::styled(format!("the last {span}, newest at the right"), look.tone(Tone::Quiet));
    [identity, Line::from(usage), time_span]
}

fn draw_queue(frame: &mut Frame<'_>, area: Rect, view: &View, name: &str, queue: &Queue<'_>, look: Look) {
    let mut rest = area;
    frame.render_widget(queue_facts(queue, look), take(&mut rest, 1));
    let charts = charts(queue.passes);
    let height = (rest.height / charts.len() as u16).clamp(1, CHART_HEIGHT_MAX);
    for chart in &charts {
        let area = take(&mut rest, height);
        if !area.is_empty() {
            draw_chart(frame, area, view, name, queue, chart, look);
        }
    }
}

/// Takes lines from the top of the remaining area, as many as it has.
fn take(rest: &mut Rect, height: u16) -> Rect {
    let height = height.min(rest.height);
    let taken = Rect { height, ..*rest };
    *rest = Rect { y: rest.y + height, height: rest.height - height, ..*rest };
    taken
}

fn queue_facts(queue: &Queue<'_>, look: Look) -> Line<'static> {
    let sample = queue.sample;
    let latency = &sample.latency_ms;
    let [p50, p95, p99] = [latency.p50, latency.p95, latency.p99].map(millis);
    let waits = if sample.buffered == 0 { Tone::Plain } else { Tone::Warning };
    let mut facts = vec![
        Span::styled(queue.title, bold()),
        Span::raw(format!("  {}/{} cores  ", sample.active_cores, sample.cores)),
        Span::styled(format!("{} buffered", sample.buffered), look.tone(waits)),
        Span::raw(format!("  {} {}", count(sample.throughput_per_s), queue.passes)),
        Span::raw(format!("  ms: p50 {p50}  p95 {p95}  p99 {p99}")),
    ];
    if let Some(oldest) = sample.oldest_ms {
        facts.push(Span::raw(format!("  oldest {}", output::duration(oldest))));
    }
    if sample.dead_letters > 0 {
        facts.push(Span::styled(format!("  {} dead letters", sample.dead_letters), look.tone(Tone::Bad)));
    }
    Line::from(facts)
}

fn draw_chart(
    frame: &mut Frame<'_>,
    area: Rect,
    view: &View,
    name: &str,
    queue: &Queue<'_>,
    chart: &Chart,
    look: Look,
) {
    let label_width = if area.width < WIDTH_FOR_PEAKS { LABEL_WIDTH_NARROW } else { LABEL_WIDTH };
    let [label, bars] = Layout::horizontal([Constraint::Length(label_width), Constraint::Fill(1)]).areas(area);
    let width = usize::from(bars.width).min(limits::TOP_HISTORY_SECONDS);
    let figures = view.history.columns(name, width, |point| (chart.figure)((queue.measure)(point)));
    let peak = figures.iter().flatten().copied().fold(0.0, f64::max);
    let text = match figures.iter().flatten().next() {
        None => format!("  {}", chart.name),
        Some(_) => format!("  {:<10}  max {}", chart.name, (chart.shown)(peak)),
    };
    frame.render_widget(Line::styled(text, look.tone(Tone::Quiet)), label);
    // Bars are integers; a thousandth is finer than the display.
    let whole = |figure: f64| (figure * 1000.0) as u64;
    let line = Sparkline::default()
        .data(figures.into_iter().map(|figure| figure.map(whole)))
        .max(whole(peak).max(1))
        .direction(RenderDirection::RightToLeft)
        .style(look.measure());
    frame.render_widget(line, bars);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::draw::picture;
    use super::super::sample::{SelectedSample, fixtures};
    use super::*;

    fn view(seconds: u32) -> View {
        let sample = |second: u32| fixtures::list(&[("shop", 40 + 10 * (second % 4))]);
        let mut view = View::new("http://127.0.0.1:8081", Duration::ZERO, sample(0), Some("shop".to_owned()));
        for second in 1..seconds {
            view.sample_received(Duration::from_secs(second.into()), sample(second));
        }
        view
    }

    #[test]
    fn an_app_shows_its_queues_and_their_last_minutes() {
        let expected = "\
isopod top  http://127.0.0.1:8081
CPU  87.0 % of 200 % █████████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
memory 1.2 GiB  1 of 12 apps awake  17 instances  3 buffered

shop  production  running
CPU 70.0 %  memory 70.0 MiB  3 instances  12s of CPU time
the last 8 s, newest at the right

PULL  2/10 cores  0 buffered  1400.0 requests/s  ms: p50 0.7  p95 3.5  p99 7.0
  requests/s  max 1400.0                                                ▁▃▅█▁▃▅█
                                                                        ████████
  p99 ms      max 7.0                                                   ▁▃▅█▁▃▅█
                                                                        ████████
  buffered    max 0


PUSH  0/10 cores  4 buffered  0.0 events/s  ms: p50 -  p95 -  p99 -
  events/s    max 0.0

  p99 ms

  buffered    max 4                                                     ████████
                                                                        ████████
q quit  Esc back  p pause
";
        assert_eq!(picture::text(&mut view(8), [80, 24], Duration::ZERO), expected);
    }

    #[test]
    fn a_wide_terminal_has_the_queues_side_by_side() {
        let shown = picture::text(&mut view(8), [200, 30], Duration::ZERO);
        assert!(shown.lines().any(|line| line.contains("PULL") && line.contains("PUSH")), "{shown}");
    }

    #[test]
    fn a_low_terminal_keeps_the_figures_and_drops_the_charts() {
        let expected = "\
isopod top  http://127.0.0.1:8081
CPU  87.0 % of 200 % █████████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
shop  production  running
CPU 70.0 %  memory 70.0 MiB  3 instances  12s of CPU time
PULL  2/10 cores  0 buffered  1400.0 requests/s  ms: p50 0.7  p95 3.5  p99 7.0
  requests/s  max 1400.0                                                ▄▅▆█▄▅▆█
PUSH  0/10 cores  4 buffered  0.0 events/s  ms: p50 -  p95 -  p99 -
q quit  Esc back  p pause
";
        assert_eq!(picture::text(&mut view(8), [80, 8], Duration::ZERO), expected);
    }

    #[test]
    fn an_app_without_figures_is_explained() {
        let mut view = view(1);
        view.sample_received(Duration::from_secs(1), fixtures::list(&[]));
        assert!(picture::text(&mut view, [80, 24], Duration::ZERO).contains("shop is not awake"));
        let mut sample = fixtures::list(&[]);
        sample.selected = SelectedSample::Unknown("shop".to_owned());
        view.sample_received(Duration::from_secs(2), sample);
        assert!(picture::text(&mut view, [80, 24], Duration::ZERO).contains("the app shop no longer exists"));
    }
}
