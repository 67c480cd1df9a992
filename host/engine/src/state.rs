//! The data of each wasmtime store: the instance's capabilities, its limits and their refusals.
//! Never runs a guest.

use crate::{
    account::{Account, AccountLimits},
    audit,
    budget::Budget,
    counter_table::Counters,
    fault::Denied,
    handles::Handles,
    inspect::ComponentInfo,
    keyvalue::KeyValueHost,
    limits,
    outbound::{InstanceOutbound, Outbound},
    output::{CurrentCall, LineSink, SinkStream, TerminalSink},
    purity::{CheckedRandom, LaterClock, PurityCheck},
    sandbox::{Sandbox, Stream},
    transaction::{Effects, Transaction},
    unread,
    waits::CallWaits,
};
use http::HeaderMap;
use isopod_executor::slice;
use isopod_policy::AssetIndex;
use std::sync::Arc;
use wasmtime::{ResourceLimiter, StoreContextMut, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// The data of one store.
pub(crate) struct HostState {
    pub(crate) table: ResourceTable,
    pub(crate) keyvalue: KeyValueHost,
    pub(crate) config: Arc<WasiConfigVariables>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) call: CurrentCall,
    pub(crate) denied: Option<Denied>,
    /// The app on whose behalf a provider runs the current call.
    pub(crate) caller: Option<Arc<str>>,
    /// The assets of the app whose request the current call decides about.
    pub(crate) assets: Option<Arc<AssetIndex>>,
    /// The length of the longest body that the middleware accepts, if it has asked for a body in
    /// the current call.
    pub(crate) asked_bytes: Option<u64>,
    /// Whether the current call's request is a HEAD: its response has no content.
    pub(crate) is_head_request: bool,
    purity: Option<Arc<PurityCheck>>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(crate) outbound: InstanceOutbound,
    /// The waits of the current call.
    pub(crate) waits: Arc<CallWaits>,
    stdio: [LineSink; 2],
    pub(crate) account: Account,
    /// The buffered effects of the delivery in progress.
    pub(crate) transaction: Option<Transaction>,
    /// The token buckets of the app whose request the plugin handles.
    pub(crate) counters: Option<Arc<Counters>>,
    /// The resources of providers that the guest holds during the current call.
    pub(crate) handles: Handles,
    /// Whether the guest has ended and only its memory is read, which allocates one more page.
    is_being_read: bool,
}

/// The parts that a program passes to the state of each of its instances.
pub(crate) struct Parts<'a> {
    pub(crate) info: &'a ComponentInfo,
    pub(crate) sandbox: &'a Arc<Sandbox>,
    pub(crate) config: &'a Arc<WasiConfigVariables>,
    pub(crate) outbound: &'a Outbound,
    pub(crate) purity: Option<&'a Arc<PurityCheck>>,
    /// The budget of guest memory over all apps.
    pub(crate) memory: &'a Arc<Budget>,
}

impl HostState {
    pub(crate) fn new(program: Parts<'_>) -> wasmtime::Result<Self> {
        let sandbox = Arc::clone(program.sandbox);
        let call = CurrentCall::default();
        let waits = Arc::<CallWaits>::default();
        let line_bytes_max = usize::try_from(sandbox.limits.log_line_bytes).unwrap_or(usize::MAX);
        let stdio = [Stream::Stdout, Stream::Stderr]
            .map(|stream| LineSink::new(stream, Arc::clone(&sandbox.output), line_bytes_max, call.clone()));
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::HANDLES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits::RESPONSE_HEADERS_BYTES_MAX);
        let account_limits = AccountLimits {
            memory_bytes: sandbox.limits.memory_bytes,
            table_elements: sandbox.limits.table_elements.into(),
            may_use_reserve: sandbox.may_use_reserve,
        };
        Ok(Self {
            table,
            keyvalue: KeyValueHost::new(sandbox.keyvalue.clone()),
            config: Arc::clone(program.config),
            call,
            denied: None,
            caller: None,
            assets: None,
            asked_bytes: None,
            is_head_request: false,
            purity: program.purity.cloned(),
            wasi: wasi_context(&program, &stdio)?,
            http,
            outbound: InstanceOutbound::new(program.outbound.clone(), Arc::clone(&waits)),
            waits,
            stdio,
            account: Account::new(account_limits, program.memory),
            transaction: None,
            counters: None,
            handles: Handles::default(),
            is_being_read: false,
            sandbox,
        })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        usize::try_from(self.account.linear_bytes()).unwrap_or(usize::MAX)
    }

    /// Measures the host memory behind the guest's handles and charges it. The caller must end the
    /// guest if the charge is refused.
    pub(crate) fn audit(&mut self) -> wasmtime::Result<()> {
        let held = audit::measure(&mut self.table);
        let charged = self.account.set_handles(held.handles, held.bytes);
        charged.map_err(|denied| {
            self.denied = Some(denied);
            wasmtime::format_err!("the guest holds too much host memory")
        })
    }

    /// Ends the transaction of a delivery, and returns its effects.
    pub(crate) fn end_transaction(&mut self) -> Effects {
        self.transaction.take().unwrap_or_default().into_effects(&mut self.account)
    }

    /// Returns the record of the guest's reads, while it is prepared for a snapshot.
    pub(crate) fn purity(&self) -> Option<&Arc<PurityCheck>> {
        self.purity.as_ref()
    }

    /// Continues the trace of a request: in the outbound requests and in the output of its call.
    pub(crate) fn begin_trace(&mut self, headers: &HeaderMap) {
        self.outbound.begin_trace(headers);
        self.call.set_trace(self.outbound.trace_parent());
    }

    /// Continues the trace of an event, like [`begin_trace`](Self::begin_trace).
    pub(crate) fn begin_event_trace(&mut self, extensions: &[(String, String)]) {
        self.outbound.begin_event_trace(extensions);
        self.call.set_trace(self.outbound.trace_parent());
    }

    /// Marks the start of a call.
    pub(crate) fn begin(&mut self, request_id: &str) {
        self.call.set_request(request_id);
        self.denied = None;
        self.asked_bytes = None;
    }

    /// Marks the end of a call.
    pub(crate) fn end(&mut self) {
        self.account.begin_call();
        self.counters = None;
        self.assets = None;
        self.handles.end();
        self.outbound.end_trace();
        self.stdio.iter().for_each(LineSink::flush_partial);
        self.call.set_request("");
    }

    /// Takes the end of what the current call wrote to standard error.
    pub(crate) fn take_errors(&mut self) -> String {
        self.stdio.iter().for_each(LineSink::flush_partial);
        self.call.take_errors()
    }

    /// Marks the guest's last call as done: from now on its memory is only read.
    pub(crate) fn begin_reading(&mut self) {
        self.is_being_read = true;
    }

    /// Records a refusal for the trap that may follow. Returns whether the request was granted.
    fn note(&mut self, outcome: Result<(), Denied>) -> bool {
        let denied = outcome.err();
        let is_granted = denied.is_none();
        self.denied = denied.or_else(|| self.denied.take());
        is_granted
    }
}

/// Handles an epoch while the guest runs: continues an unexpired time slice and yields an expired
/// one. Charges host memory that the guest has used since the last epoch.
pub(crate) fn on_epoch(mut store: StoreContextMut<'_, HostState>) -> wasmtime::Result<UpdateDeadline> {
    if let Some(copying) = unread::on_epoch() {
        return Ok(copying);
    }
    store.data_mut().audit()?;
    if !slice::expired() {
        return Ok(UpdateDeadline::Continue(1));
    }
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(slice::yield_now())))
}

fn wasi_context(program: &Parts<'_>, stdio: &[LineSink; 2]) -> wasmtime::Result<WasiCtx> {
    let sandbox = program.sandbox;
    let mut wasi = WasiCtxBuilder::new();
    if let Some(purity) = program.purity {
        wasi.secure_random(CheckedRandom::new(purity));
    }
    if program.info.is_snapshot {
        wasi.monotonic_clock(LaterClock::new());
    }
    wasi.max_random_size(limits::RANDOM_BYTES_MAX);
    wasi.args(&sandbox.args).envs(&sandbox.env).allow_tcp(false).allow_udp(false);
    match &sandbox.stdio {
        Some(own) => {
            wasi.inherit_stdio();
            if let Some(screen) = &own.stdout {
                wasi.stdout(SinkStream(TerminalSink(Arc::clone(screen))));
            }
            if let Some(screen) = &own.stderr {
                wasi.stderr(SinkStream(TerminalSink(Arc::clone(screen))));
            }
        }
        None => {
            wasi.stdout(SinkStream(stdio[0].clone())).stderr(SinkStream(stdio[1].clone()));
        }
    }
    if sandbox.inherit_network {
        wasi.allow_tcp(true).allow_udp(true).inherit_network().allow_ip_name_lookup(true);
    }
    for folder in &sandbox.folders {
        let permissions = if folder.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        wasi.preopened_dir(&folder.host, &folder.guest, permissions)?;
    }
    Ok(wasi.build())
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

impl ResourceLimiter for HostState {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if self.is_being_read {
            return Ok(true);
        }
        let grown = self.account.grow_memory(desired.saturating_sub(current) as u64);
        Ok(self.note(grown))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let grown = self.account.grow_tables(desired.saturating_sub(current) as u64);
        Ok(self.note(grown))
    }

    fn instances(&self) -> usize {
        limits::CORE_INSTANCES_PER_COMPONENT_MAX as usize
    }

    fn tables(&self) -> usize {
        limits::CORE_INSTANCES_PER_COMPONENT_MAX as usize
    }

    fn memories(&self) -> usize {
        limits::CORE_INSTANCES_PER_COMPONENT_MAX as usize
    }
}
