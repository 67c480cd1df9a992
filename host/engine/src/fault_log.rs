//! Writes the faults of a program to its app's log. Never decides whether a fault is logged.

use crate::{
    fault::Fault,
    program::Program,
    sandbox::{Level, Origin, OutputLine, Stream},
};
use std::{sync::Arc, time::SystemTime};

impl Program {
    /// Writes a fault to the app's log, with the guest's backtrace and the time of this call. If
    /// the component contains debug information, the symboliser writes the line. It does so once
    /// it has found the places in the source, or after
    /// [`SYMBOLS_WAIT_MAX`](crate::limits::SYMBOLS_WAIT_MAX).
    pub fn log_fault(&self, fault: &Fault, origin: Origin<'_>) {
        let [instance, request_id, event_id] = [origin.instance, origin.request_id, origin.event_id].map(str::to_owned);
        let (output, own, trace) = (Arc::clone(&self.sandbox().output), fault.clone(), origin.trace);
        let time = Some(SystemTime::now());
        self.symbolise(fault, move || {
            let origin = Origin { instance: &instance, request_id: &request_id, event_id: &event_id, trace };
            let (stream, text) = (Stream::Log(Level::Error), own.report());
            output.line(OutputLine { stream, context: "isopod", origin, text: &text, time });
        });
    }

    /// Adds the places in the source to a fault's backtrace, if the component contains debug
    /// information.
    pub async fn find_places(&self, fault: &Fault) {
        self.symbolise(fault, || {});
        fault.places_found().await;
    }

    fn symbolise(&self, fault: &Fault, then: impl FnOnce() + Send + 'static) {
        match (self.source(), fault.trace()) {
            (Some(source), Some(backtrace)) => {
                let symboliser = self.engine().symboliser();
                symboliser.symbolise(&self.sandbox().app, Arc::clone(source), backtrace, then);
            }
            _ => then(),
        }
    }
}
