//! Calls a provider's exports for an app. App and provider have their own stores, so each value is
//! copied from one to the other, and a number stands for a resource. Never chooses the provider.

use crate::{
    fault::Fault,
    instance::Instance,
    provider_call::{Action, ProviderCall, ProviderResults},
    resource_values::convert,
};
use wasmtime::component::{Func, Val};

impl Instance {
    /// Calls a function that this provider offers, or drops one of its resources, for an app.
    /// Returns the instance if it can be reused, or if the app holds resources of it: then it
    /// serves only this caller ([`Self::lends_resources`]).
    pub async fn provide(
        mut self: Box<Self>,
        call: ProviderCall,
        request_id: &str,
    ) -> (Result<ProviderResults, Fault>, Option<Box<Self>>) {
        let ProviderCall { interface, caller, action } = call;
        let mut function = None;
        if let Action::Call { function: name, .. } = &action {
            let program = self.program.clone();
            let index = program.exports().offered.index(&interface, name);
            function = index.and_then(|index| self.component.get_func(&mut self.store, index));
            if function.is_none() {
                let entry = "the function of the provider's interface";
                return (Err(Fault::NoSuchEntry { entry }), Some(self));
            }
        }
        self.begin(request_id);
        self.store.data_mut().caller = Some(caller);
        let called = match (action, function) {
            (Action::Call { arguments, results, has_resources, .. }, Some(function)) => {
                self.call_offered(function, arguments, results, has_resources).await
            }
            (Action::Drop { resource }, _) => self.drop_lent(resource).await.map(|()| Vec::new()),
            (Action::Call { .. }, None) => Ok(Vec::new()),
        };
        self.store.data_mut().caller = None;
        match called {
            Ok(values) => {
                let resources = self.ready.lent.count();
                let instance = if self.lends_resources() { self.held() } else { self.finished() };
                (Ok(ProviderResults { values, resources }), instance)
            }
            Err(error) => (Err(self.fault(&error)), None),
        }
    }

    async fn call_offered(
        &mut self,
        function: Func,
        mut arguments: Vec<Val>,
        results: usize,
        has_resources: bool,
    ) -> wasmtime::Result<Vec<Val>> {
        let ty = has_resources.then(|| function.ty(&self.store));
        let Self { store, ready, .. } = self;
        if let Some(ty) = &ty {
            let typed = arguments.into_iter().zip(ty.params());
            let found = typed.map(|(value, (_, ty))| convert(value, &ty, &mut |value, ty| ready.lent.find(value, ty)));
            arguments = found.collect::<wasmtime::Result<_>>()?;
        }
        let mut values = vec![Val::Bool(false); results];
        function.call_async(&mut *store, &arguments, &mut values).await?;
        if let Some(ty) = &ty {
            let typed = values.into_iter().zip(ty.results());
            let lent = typed.map(|(value, ty)| convert(value, &ty, &mut |value, _| ready.lent.lend(value)));
            values = lent.collect::<wasmtime::Result<_>>()?;
        }
        Ok(values)
    }

    /// Runs the destructor of a resource that an app dropped.
    async fn drop_lent(&mut self, resource: u32) -> wasmtime::Result<()> {
        let Self { store, ready, .. } = self;
        ready.lent.take(resource)?.resource_drop_async(store).await
    }
}
