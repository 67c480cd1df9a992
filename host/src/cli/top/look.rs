//! The look of the view: the styles of its parts, and the format of elapsed times. Never draws.

use std::time::Duration;

use ratatui::style::{Color, Modifier, Style};

use super::super::output;
use super::columns::Tone;

/// The styles of emphasised parts: with colours, or without.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) has_colour: bool,
}

impl Look {
    pub(super) fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Plain => Style::new(),
            Tone::Quiet => Style::new().add_modifier(Modifier::DIM),
            Tone::Warning => self.coloured(Color::Yellow).add_modifier(Modifier::BOLD),
            Tone::Bad => self.coloured(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// The style of bars and charts.
    pub(super) fn measure(self) -> Style {
        self.coloured(Color::Cyan)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.has_colour { Style::new().fg(colour) } else { Style::new() }
    }
}

pub(super) fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Formats an elapsed time, exact to the second.
pub(super) fn passed(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => output::duration(seconds * 1000),
    }
}
