//! Runs `wasi:cli/command` components once, from start to exit.

use crate::{fault::Fault, instance::Instance, kind::Flavour, program::Program, state::HostState};
use wasmtime::Store;

impl Program {
    /// Runs the component's `wasi:cli/run` to its end and returns its exit status. There is no
    /// deadline: the caller cancels the run by dropping the future. The lines of the run have the
    /// given instance id.
    pub async fn run(&self, id: &str) -> Result<i32, Fault> {
        let mut instance = Instance::start(self).await?;
        instance.set_id(id);
        instance.begin("");
        let outcome = match self.engine().flavour_of(self.info()) {
            Flavour::Concurrent if self.info().exports.iter().any(|name| name.starts_with("wasi:cli/run@0.3.")) => {
                run_03(&mut instance.store, &instance.component).await
            }
            _ => run_02(&mut instance.store, &instance.component).await,
        };
        match outcome {
            Ok(Ok(())) => {
                instance.store.data_mut().end();
                Ok(0)
            }
            Ok(Err(())) => {
                instance.store.data_mut().end();
                Ok(1)
            }
            Err(error) => match instance.fault(&error) {
                Fault::Exited { code } => Ok(code),
                fault => Err(fault),
            },
        }
    }
}

async fn run_02(
    store: &mut Store<HostState>,
    component: &wasmtime::component::Instance,
) -> wasmtime::Result<Result<(), ()>> {
    let command = wasmtime_wasi::p2::bindings::Command::new(&mut *store, component)?;
    command.wasi_cli_run().call_run(store).await
}

async fn run_03(
    store: &mut Store<HostState>,
    component: &wasmtime::component::Instance,
) -> wasmtime::Result<Result<(), ()>> {
    let command = wasmtime_wasi::p3::bindings::Command::new(&mut *store, component)?;
    store.run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await).await?
}
