//! Calls a provider's exports for an app. App and provider have their own stores, so each value is
//! copied from one to the other. Never chooses the provider.

use crate::{
    fault::Fault,
    instance::Instance,
    provider_call::{ProviderCall, ProviderResults},
};
use wasmtime::component::Val;

impl Instance {
    /// Calls a function that this provider offers, for an app. Returns the instance if it can be
    /// reused.
    pub async fn provide(
        mut self: Box<Self>,
        call: ProviderCall,
        request_id: &str,
    ) -> (Result<ProviderResults, Fault>, Option<Box<Self>>) {
        let program = self.program.clone();
        let function = program.exports().offered.index(&call);
        let function = function.and_then(|index| self.component.get_func(&mut self.store, index));
        let Some(function) = function else {
            return (Err(Fault::NoSuchEntry { entry: "the function of the provider's interface" }), Some(self));
        };
        self.begin(request_id);
        self.store.data_mut().caller = Some(call.caller);
        let mut results = vec![Val::Bool(false); call.results];
        let called = function.call_async(&mut self.store, &call.arguments, &mut results).await;
        self.store.data_mut().caller = None;
        match called {
            Ok(()) => (Ok(ProviderResults(results)), self.finished()),
            Err(error) => (Err(self.fault(&error)), None),
        }
    }
}
