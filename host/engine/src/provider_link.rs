//! The two sides of the interfaces between apps and providers: links the functions that an app
//! imports, which hand a call to the embedder, and finds those that a provider exports. Never
//! chooses the provider, and never calls one.

use crate::{
    inspect::ComponentInfo,
    provider_call::{ProviderCall, ProviderError, ProviderResults},
    sandbox::Providers,
    state::HostState,
};
use isopod_policy::Phase;
use std::sync::Arc;
use wasmtime::{
    StoreContextMut,
    component::{ComponentExportIndex, InstancePre, Linker, Val},
};

/// Links the interfaces that a component imports from providers. A call fails unless the sandbox of
/// the instance grants the interface.
pub(crate) fn link(linker: &mut Linker<HostState>, info: &ComponentInfo) -> wasmtime::Result<()> {
    for (name, interface) in &info.imported_interfaces {
        let mut instance = linker.instance(name)?;
        let interface_name: Arc<str> = name.as_str().into();
        for function in interface.functions.keys() {
            let (interface, name): (_, Arc<str>) = (Arc::clone(&interface_name), function.as_str().into());
            instance.func_new_async(function, move |store, _, arguments, results| {
                Box::new(call(store, Arc::clone(&interface), Arc::clone(&name), arguments, results))
            })?;
        }
    }
    Ok(())
}

async fn call(
    mut store: StoreContextMut<'_, HostState>,
    interface: Arc<str>,
    function: Arc<str>,
    arguments: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let state = store.data_mut();
    let Some(providers) = state.providers_of(&interface) else {
        return Err(ProviderError::NotGranted { interface: interface.to_string() }.into());
    };
    state.account.begin_call();
    state.hold_values(arguments)?;
    let request_id = state.call.with(|origin| origin.request_id.to_owned());
    let caller = Arc::from(state.sandbox.app.as_str());
    let call = ProviderCall { interface, function, caller, arguments: arguments.to_vec(), results: results.len() };
    let waiting = state.waits.begin_nested(Phase::Providers);
    let ProviderResults(values) = providers.call(call, &request_id).await?;
    drop(waiting);
    state.hold_values(&values)?;
    wasmtime::ensure!(values.len() == results.len(), "the provider returned {} results", values.len());
    for (result, value) in results.iter_mut().zip(values) {
        *result = value;
    }
    Ok(())
}

impl HostState {
    fn providers_of(&self, interface: &str) -> Option<Arc<dyn Providers>> {
        let is_granted = self.sandbox.grants.interfaces.keys().any(|granted| granted.as_str() == interface);
        self.sandbox.providers.clone().filter(|_| is_granted)
    }

    /// Charges the values of the current call.
    fn hold_values(&mut self, values: &[Val]) -> wasmtime::Result<()> {
        let bytes = values.iter().map(bytes_of).sum();
        self.account.hold(bytes).map_err(|denied| {
            let text = denied.call_error();
            self.denied = Some(denied);
            wasmtime::format_err!("{text}")
        })
    }
}

/// Returns the memory that a value takes in the host.
fn bytes_of(value: &Val) -> u64 {
    let all = |values: &[Val]| values.iter().map(bytes_of).sum::<u64>();
    let some = |value: &Option<Box<Val>>| value.as_deref().map_or(0, bytes_of);
    let inner = match value {
        Val::String(text) | Val::Enum(text) => text.len() as u64,
        Val::List(values) | Val::Tuple(values) | Val::FixedLengthList(values) => all(values),
        Val::Map(pairs) => pairs.iter().map(|(key, value)| bytes_of(key) + bytes_of(value)).sum(),
        Val::Record(fields) => fields.iter().map(|(name, value)| name.len() as u64 + bytes_of(value)).sum(),
        Val::Variant(name, value) => name.len() as u64 + some(value),
        Val::Option(value) => some(value),
        Val::Result(Ok(value) | Err(value)) => some(value),
        Val::Flags(names) => names.iter().map(|name| (size_of::<String>() + name.len()) as u64).sum(),
        _ => 0,
    };
    size_of::<Val>() as u64 + inner
}

/// The exported functions of a provider.
pub(crate) struct Offered(Vec<OfferedFunction>);

struct OfferedFunction {
    interface: String,
    function: String,
    index: ComponentExportIndex,
}

impl Offered {
    /// Finds the functions of the interfaces that the component offers.
    pub(crate) fn find(info: &ComponentInfo, pre: &InstancePre<HostState>) -> Self {
        let component = pre.component();
        let interfaces = info.exported_interfaces.iter().filter(|(_, interface)| interface.unsupported.is_none());
        let functions = interfaces.filter_map(|(name, interface)| {
            let instance = component.get_export_index(None, name)?;
            Some(interface.functions.keys().filter_map(move |function| {
                let index = component.get_export_index(Some(&instance), function)?;
                Some(OfferedFunction { interface: name.clone(), function: function.clone(), index })
            }))
        });
        Self(functions.flatten().collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn index(&self, call: &ProviderCall) -> Option<ComponentExportIndex> {
        let is_called =
            |offered: &&OfferedFunction| *offered.function == *call.function && *offered.interface == *call.interface;
        self.0.iter().find(is_called).map(|offered| offered.index)
    }
}
