//! The columns of the table: headings, cells, sort orders, and which columns fit into a width.
//! Never draws.

use std::cmp::Ordering;

use super::super::output;
use super::sample::{AppSample, QueueSample};

/// The space between two columns.
pub(super) const GAP: usize = 2;
/// The minimum width of names when they are cut in favour of the most important columns.
const NAME_WIDTH_MIN: usize = 8;
/// The highest rank of the columns for which names are cut.
const RANK_ABOVE_NAMES: u8 = 4;
/// The width up to which a name displaces other columns.
const NAME_WIDTH_WANTED: usize = 20;

/// The sort order of the rows: largest first, but names alphabetically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Cpu,
    Memory,
    Requests,
    Latency,
    Name,
}

impl Order {
    pub(super) fn compare(self, a: &AppSample, b: &AppSample) -> Ordering {
        // Without a latency, an app is not slow.
        let p99 = |app: &AppSample| app.pull.latency_ms.p99.unwrap_or(f64::NEG_INFINITY);
        let by_figure = match self {
            Order::Cpu => b.cpu_percent.total_cmp(&a.cpu_percent),
            Order::Memory => b.memory_bytes.cmp(&a.memory_bytes),
            Order::Requests => b.pull.throughput_per_s.total_cmp(&a.pull.throughput_per_s),
            Order::Latency => p99(b).total_cmp(&p99(a)),
            Order::Name => Ordering::Equal,
        };
        by_figure.then_with(|| a.name.cmp(&b.name))
    }
}

/// The emphasis of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Of little interest.
    Quiet,
    Warning,
    Bad,
}

/// A cell of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, tone: Tone::Plain }
    }
}

/// One column.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) heading: &'static str,
    /// The sort order that the column shows.
    pub(super) order: Option<Order>,
    /// If not all columns fit, those with the highest ranks are omitted first.
    rank: u8,
    /// The minimum width, so that columns don't move with every sample.
    width_min: usize,
    pub(super) is_number: bool,
    pub(super) cell: fn(&AppSample) -> Cell,
}

/// Returns a column for figures.
const fn figure(heading: &'static str, rank: u8, width_min: usize, cell: fn(&AppSample) -> Cell) -> Column {
    Column { heading, order: None, rank, width_min, is_number: true, cell }
}

/// Makes a column sortable.
const fn sorted(order: Order, column: Column) -> Column {
    Column { order: Some(order), ..column }
}

const fn words(column: Column) -> Column {
    Column { is_number: false, ..column }
}

/// All columns in their order. The first one is never omitted.
pub(super) const COLUMNS: [Column; 19] = [
    words(sorted(Order::Name, figure("APP", 0, NAME_WIDTH_MIN, |app| app.name.clone().into()))),
    words(figure("TYPE", 17, 10, |app| app.kind.clone().into())),
    words(figure("STATE", 5, 9, state)),
    figure("INST", 6, 4, |app| app.instances.to_string().into()),
    sorted(Order::Cpu, figure("CPU%", 1, 6, |app| percent(app.cpu_percent).into())),
    sorted(Order::Memory, figure("MEM", 2, 8, |app| output::size(app.memory_bytes).into())),
    figure("PULL", 7, 5, |app| cores(&app.pull)),
    figure("BUF", 8, 4, |app| waiting(&app.pull)),
    figure("OLDEST", 18, 6, |app| oldest(&app.pull)),
    figure("P50", 15, 5, |app| latency(app.pull.latency_ms.p50)),
    figure("P95", 16, 5, |app| latency(app.pull.latency_ms.p95)),
    sorted(Order::Latency, figure("P99", 4, 5, |app| latency(app.pull.latency_ms.p99))),
    sorted(Order::Requests, figure("REQ/S", 3, 6, |app| rate(app.pull.throughput_per_s))),
    figure("PUSH", 9, 5, |app| cores(&app.push)),
    figure("BUF", 10, 4, |app| waiting(&app.push)),
    figure("P99", 14, 5, |app| latency(app.push.latency_ms.p99)),
    figure("EV/S", 13, 6, |app| rate(app.push.throughput_per_s)),
    figure("STORED", 11, 6, |app| stored(&app.push)),
    figure("OLDEST", 12, 6, |app| oldest(&app.push)),
];

/// A column that fits, and its width.
#[derive(Debug)]
pub(super) struct Fitted {
    pub(super) column: &'static Column,
    pub(super) width: usize,
}

/// Returns the columns that fit into a width, each as wide as its widest cell. The least important
/// columns are omitted first. A long name is cut only in favour of the most important columns.
pub(super) fn fitting(width: usize, apps: &[&AppSample]) -> Vec<Fitted> {
    let mut fitted: Vec<Fitted> =
        COLUMNS.iter().map(|column| Fitted { column, width: natural_width(column, apps) }).collect();
    let name = fitted[0].width;
    fitted[0].width = name.min(NAME_WIDTH_WANTED);
    while taken(&fitted) > width && fitted.len() > 1 {
        let least = (0..fitted.len()).max_by_key(|at| fitted[*at].column.rank).unwrap_or_default();
        let over = taken(&fitted) - width;
        let spare = fitted[0].width.saturating_sub(NAME_WIDTH_MIN);
        if fitted[least].column.rank <= RANK_ABOVE_NAMES && over <= spare {
            fitted[0].width -= over;
        } else {
            fitted.remove(least);
        }
    }
    let room = width.saturating_sub(taken(&fitted));
    fitted[0].width = name.min(fitted[0].width + room).min(width);
    fitted
}

fn taken(fitted: &[Fitted]) -> usize {
    fitted.iter().map(|fitted| fitted.width + GAP).sum::<usize>().saturating_sub(GAP)
}

fn natural_width(column: &Column, apps: &[&AppSample]) -> usize {
    // One more than the heading, for the mark of the sort order.
    let heading = column.heading.len() + usize::from(column.order.is_some());
    let cells = apps.iter().map(|app| (column.cell)(app).text.chars().count());
    cells.max().unwrap_or_default().max(heading).max(column.width_min)
}

fn state(app: &AppSample) -> Cell {
    let tone = match app.state.as_str() {
        "running" => Tone::Plain,
        "error" => Tone::Bad,
        _ => Tone::Warning,
    };
    Cell { text: app.state.clone(), tone }
}

fn cores(queue: &QueueSample) -> Cell {
    let tone = match queue.active_cores {
        0 => Tone::Quiet,
        active if active >= queue.cores => Tone::Warning,
        _ => Tone::Plain,
    };
    Cell { text: format!("{}/{}", queue.active_cores, queue.cores), tone }
}

fn waiting(queue: &QueueSample) -> Cell {
    let tone = if queue.buffered == 0 { Tone::Quiet } else { Tone::Warning };
    Cell { text: queue.buffered.to_string(), tone }
}

/// Formats the number of stored events, and that of the dead letters.
fn stored(queue: &QueueSample) -> Cell {
    let waiting = queue.stored.total();
    match (waiting, queue.dead_letters) {
        (0, 0) => Cell { text: "0".to_owned(), tone: Tone::Quiet },
        (_, 0) => waiting.to_string().into(),
        (_, dead) => Cell { text: format!("{waiting} +{dead} dead"), tone: Tone::Bad },
    }
}

/// Formats the age of the oldest job that waits, or of the oldest event that has not ended.
fn oldest(queue: &QueueSample) -> Cell {
    match queue.oldest_ms {
        None => Cell { text: "-".to_owned(), tone: Tone::Quiet },
        Some(age) => output::duration(age).into(),
    }
}

fn latency(ms: Option<f64>) -> Cell {
    let tone = if ms.is_some() { Tone::Plain } else { Tone::Quiet };
    Cell { text: millis(ms), tone }
}

fn rate(per_s: f64) -> Cell {
    let tone = if per_s > 0.0 { Tone::Plain } else { Tone::Quiet };
    Cell { text: count(per_s), tone }
}

/// Formats a share of one processor: 41.2, and from 1000 on without the fraction.
pub(super) fn percent(percent: f64) -> String {
    if percent < 1000.0 { format!("{percent:.1}") } else { format!("{percent:.0}") }
}

/// Formats milliseconds briefly: 0.3, 45, 12.3s; a dash without a measurement.
pub(super) fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 9.95 => format!("{ms:.1}"),
        Some(ms) if ms < 9_999.5 => format!("{ms:.0}"),
        Some(ms) => format!("{:.1}s", ms / 1000.0),
    }
}

/// Formats a rate per second briefly: 0.5, 812.5, 12.3k.
pub(super) fn count(number: f64) -> String {
    match number {
        n if n < 9_999.5 => format!("{n:.1}"),
        n if n < 999_950.0 => format!("{:.1}k", n / 1e3),
        n => format!("{:.1}M", n / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{StoredSample, fixtures};
    use super::*;

    fn headings(width: usize, apps: &[&AppSample]) -> Vec<&'static str> {
        fitting(width, apps).iter().map(|fitted| fitted.column.heading).collect()
    }

    #[test]
    fn every_rank_is_given_once() {
        let mut ranks = COLUMNS.each_ref().map(|column| column.rank);
        ranks.sort_unstable();
        assert_eq!(ranks.to_vec(), (0..COLUMNS.len() as u8).collect::<Vec<_>>());
    }

    #[test]
    fn the_columns_never_exceed_the_width() {
        let (short, long) = (fixtures::app("shop", 41), fixtures::app(&"x".repeat(63), 41));
        for width in 0..300 {
            for apps in [&[][..], &[&short], &[&short, &long]] {
                let fitted = fitting(width, apps);
                assert!(taken(&fitted) <= width, "{width}: {fitted:?}");
                assert_eq!(fitted[0].column.heading, "APP");
            }
        }
    }

    #[test]
    fn the_most_important_columns_are_omitted_last() {
        let app = fixtures::app("shop", 41);
        assert_eq!(headings(300, &[&app]).len(), COLUMNS.len());
        assert_eq!(
            headings(80, &[&app]),
            ["APP", "STATE", "INST", "CPU%", "MEM", "PULL", "BUF", "P99", "REQ/S", "PUSH"]
        );
        assert_eq!(headings(40, &[&app]), ["APP", "CPU%", "MEM", "REQ/S"]);
        assert_eq!(headings(20, &[&app]), ["APP", "CPU%"]);
        assert_eq!(headings(5, &[&app]), ["APP"]);
    }

    #[test]
    fn a_long_name_is_cut_for_columns_and_gets_the_remaining_width() {
        let long = fixtures::app(&"x".repeat(63), 41);
        assert_eq!(fitting(50, &[&long])[0].width, 17);
        assert_eq!(headings(50, &[&long]), ["APP", "CPU%", "MEM", "P99", "REQ/S"]);
        let all: usize = taken(&fitting(300, &[&long]));
        assert_eq!(fitting(all, &[&long])[0].width, 63);
        assert_eq!(fitting(all, &[&long]).len(), COLUMNS.len());
    }

    #[test]
    fn each_order_puts_the_largest_first_and_falls_back_on_names() {
        let mut apps = [fixtures::app("b", 1), fixtures::app("a", 1), fixtures::app("c", 9)];
        for order in [Order::Cpu, Order::Memory, Order::Requests, Order::Latency] {
            apps.sort_by(|a, b| order.compare(a, b));
            assert_eq!(apps.each_ref().map(|app| app.name.as_str()), ["c", "a", "b"], "{order:?}");
        }
        apps.sort_by(|a, b| Order::Name.compare(a, b));
        assert_eq!(apps.each_ref().map(|app| app.name.as_str()), ["a", "b", "c"]);
    }

    #[test]
    fn an_app_without_a_latency_is_not_the_slowest() {
        let mut silent = fixtures::app("a", 9);
        silent.pull.latency_ms.p99 = None;
        assert_eq!(Order::Latency.compare(&silent, &fixtures::app("b", 1)), Ordering::Greater);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([0.04, 41.25, 199.96, 3_200.0].map(percent), ["0.0", "41.2", "200.0", "3200"]);
        assert_eq!(
            [Some(0.31), Some(9.97), Some(450.4), Some(12_340.0), None].map(millis),
            ["0.3", "10", "450", "12.3s", "-"]
        );
        assert_eq!([0.0, 812.5, 12_340.0, 2_500_000.0].map(count), ["0.0", "812.5", "12.3k", "2.5M"]);
    }

    #[test]
    fn unusual_figures_are_emphasised() {
        let mut app = fixtures::app("shop", 1);
        app.pull.active_cores = 10;
        assert_eq!(cores(&app.pull).tone, Tone::Warning);
        assert_eq!((waiting(&app.pull).tone, waiting(&app.push).tone), (Tone::Quiet, Tone::Warning));
        assert_eq!((stored(&app.push).text.as_str(), oldest(&app.push).text.as_str()), ("0", "-"));
        app.push.stored = StoredSample { ready: 2, delayed: 1, leased: 4 };
        app.push.oldest_ms = Some(61_000);
        assert_eq!((stored(&app.push).text.as_str(), oldest(&app.push).text.as_str()), ("7", "1m1s"));
        app.push.dead_letters = 3;
        assert_eq!(stored(&app.push), Cell { text: "7 +3 dead".to_owned(), tone: Tone::Bad });
        app.state = "error".to_owned();
        assert_eq!(state(&app).tone, Tone::Bad);
    }
}
