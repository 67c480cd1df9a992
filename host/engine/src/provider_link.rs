//! The two sides of the interfaces between apps and providers: links the functions and resources
//! that an app imports, which hand a call to the embedder, and finds the functions that a provider
//! exports. Never chooses the provider.

use crate::{
    handles::BadHandle,
    inspect::ComponentInfo,
    interfaces::has_resources,
    provider_call::{Action, Provided, ProviderCall, ProviderError, ProviderErrorKind, ProviderResults},
    resource_values::convert,
    sandbox::Providers,
    state::HostState,
};
use isopod_policy::Phase;
use std::{collections::BTreeSet, sync::Arc};
use wasmtime::{
    StoreContextMut,
    component::{
        ComponentExportIndex, InstancePre, Linker, ResourceAny, ResourceDynamic, ResourceType, Type, Val,
        types::ComponentFunc,
    },
};

/// A function that an app imports from a provider.
struct Imported {
    interface: Arc<str>,
    function: Arc<str>,
    has_resources: bool,
    /// The number of types of resources that the component imports from providers.
    resource_types: u32,
}

/// Links the interfaces that a component imports from providers. A call fails unless the sandbox of
/// the instance grants the interface.
pub(crate) fn link(linker: &mut Linker<HostState>, info: &ComponentInfo) -> wasmtime::Result<()> {
    let interfaces = &info.imported_interfaces;
    let resources: BTreeSet<&str> =
        interfaces.values().flat_map(|interface| interface.resources.values().map(String::as_str)).collect();
    let resource_types = u32::try_from(resources.len())?;
    for (name, interface) in interfaces {
        let mut instance = linker.instance(name)?;
        for (resource, identity) in &interface.resources {
            let number = resources.iter().take_while(|other| **other < identity.as_str()).count();
            let ty = ResourceType::host_dynamic(u32::try_from(number)?);
            instance.resource_async(resource, ty, |store, rep| Box::new(drop_handle(store, rep)))?;
        }
        let interface_name: Arc<str> = name.as_str().into();
        for (function, signature) in &interface.functions {
            let imported = Arc::new(Imported {
                interface: Arc::clone(&interface_name),
                function: function.as_str().into(),
                has_resources: has_resources(signature),
                resource_types,
            });
            instance.func_new_async(function, move |store, ty, arguments, results| {
                Box::new(call(store, ty, Arc::clone(&imported), arguments, results))
            })?;
        }
    }
    Ok(())
}

async fn call(
    mut store: StoreContextMut<'_, HostState>,
    ty: ComponentFunc,
    imported: Arc<Imported>,
    arguments: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let Imported { interface, function, has_resources, resource_types } = &*imported;
    let state = store.data_mut();
    let not_granted = || ProviderError::NotGranted { interface: interface.to_string() };
    let providers = state.providers_of(interface).ok_or_else(not_granted)?;
    let provider: Arc<str> = providers.provider(interface).ok_or_else(not_granted)?.into();
    state.account.begin_call();
    state.hold_values(arguments)?;
    let mut arguments = arguments.to_vec();
    if *has_resources {
        let typed = arguments.into_iter().zip(ty.params());
        let passed =
            typed.map(|(value, (_, ty))| convert(value, &ty, &mut |value, _| pass(&mut store, value, &provider)));
        arguments = passed.collect::<wasmtime::Result<_>>()?;
    }
    let (function, results_count) = (Arc::clone(function), results.len());
    let action = Action::Call { function, arguments, results: results_count, has_resources: *has_resources };
    let mut values = send(&mut store, &*providers, &provider, interface, action).await?.values;
    store.data_mut().hold_values(&values)?;
    wasmtime::ensure!(values.len() == results.len(), "the provider returned {} results", values.len());
    if *has_resources {
        let typed = values.into_iter().zip(ty.results());
        let received = typed.map(|(value, ty)| {
            convert(value, &ty, &mut |value, ty| receive(&mut store, value, ty, &provider, *resource_types))
        });
        values = received.collect::<wasmtime::Result<_>>()?;
    }
    for (result, value) in results.iter_mut().zip(values) {
        *result = value;
    }
    Ok(())
}

/// Sends a call to the provider instance that owns the guest's resources, or to any instance if the
/// guest holds none.
async fn send(
    store: &mut StoreContextMut<'_, HostState>,
    providers: &dyn Providers,
    provider: &Arc<str>,
    interface: &Arc<str>,
    action: Action,
) -> wasmtime::Result<ProviderResults> {
    let state = store.data_mut();
    let request_id = state.call.with(|origin| origin.request_id.to_owned());
    let caller = Arc::from(state.sandbox.app.as_str());
    let call = ProviderCall { interface: Arc::clone(interface), caller, action };
    let session = state.handles.take_session(provider);
    let waiting = state.waits.begin_nested(Phase::Providers);
    let Provided { results, session } = match session {
        Some(mut session) => {
            let results = session.call(call, &request_id).await?;
            Provided { results, session: Some(session) }
        }
        None => providers.call(call, &request_id).await?,
    };
    drop(waiting);
    if let Some(session) = session.filter(|_| results.holds_resources()) {
        store.data_mut().handles.put_session(Arc::clone(provider), session);
    }
    Ok(results)
}

/// Drops the provider's resource after the guest has dropped its handle. Does nothing for a handle
/// of an earlier call or of an instance that has ended, whose resource no longer exists.
async fn drop_handle(mut store: StoreContextMut<'_, HostState>, rep: u32) -> wasmtime::Result<()> {
    let state = store.data_mut();
    let Some((provider, resource)) = state.handles.remove(rep) else { return Ok(()) };
    let providers = state.sandbox.providers.clone().filter(|_| state.handles.has_session(&provider));
    let Some(providers) = providers else { return Ok(()) };
    // A session serves all interfaces of its provider.
    let interface = Arc::from("");
    send(&mut store, &*providers, &provider, &interface, Action::Drop { resource }).await.map(drop)
}

/// Replaces a handle of the guest by the number of its resource.
fn pass(store: &mut StoreContextMut<'_, HostState>, value: Val, provider: &Arc<str>) -> wasmtime::Result<Val> {
    let Val::Resource(resource) = value else { return Ok(value) };
    let handle = ResourceDynamic::try_from_resource_any(resource, &mut *store)?;
    let passed = store.data_mut().handles.pass(handle.rep(), handle.owned(), provider);
    Ok(Val::U32(passed.map_err(|bad| bad_handle(provider, bad))?))
}

/// Replaces the number of a resource by a handle for the guest.
fn receive(
    store: &mut StoreContextMut<'_, HostState>,
    value: Val,
    ty: &Type,
    provider: &Arc<str>,
    resource_types: u32,
) -> wasmtime::Result<Val> {
    let (Val::U32(remote), Type::Own(ty)) = (&value, ty) else { return Ok(value) };
    let number = (0..resource_types).find(|number| ResourceType::host_dynamic(*number) == *ty);
    let number = number.ok_or_else(|| wasmtime::format_err!("the resource is not of a provider"))?;
    let rep = store.data_mut().handles.add(provider, *remote).map_err(|bad| bad_handle(provider, bad))?;
    let handle: ResourceAny = ResourceDynamic::new_own(rep, number).try_into_resource_any(&mut *store)?;
    Ok(Val::Resource(handle))
}

fn bad_handle(provider: &Arc<str>, bad: BadHandle) -> ProviderError {
    ProviderError::Failed { provider: provider.to_string(), why: bad.to_string(), kind: ProviderErrorKind::Failed }
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

    pub(crate) fn index(&self, interface: &str, function: &str) -> Option<ComponentExportIndex> {
        let is_called = |offered: &&OfferedFunction| offered.function == function && offered.interface == interface;
        self.0.iter().find(is_called).map(|offered| offered.index)
    }
}
