//! Computes how many slots of the pooling allocator an instance of a component takes, before the
//! component is compiled. Never allocates a slot.

use crate::{kind::Flavour, limits};
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, Encoding,
    Instance, Parser, Payload,
};

/// The pool resources of an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) memories: u32,
    pub(crate) tables: u32,
    core_instances: u32,
    /// Component instances that contain code.
    code_instances: u32,
}

impl Needs {
    fn and(self, other: Self) -> Self {
        Self {
            memories: self.memories.saturating_add(other.memories),
            tables: self.tables.saturating_add(other.tables),
            core_instances: self.core_instances.saturating_add(other.core_instances),
            code_instances: self.code_instances.saturating_add(other.code_instances),
        }
    }

    /// Returns the number of slots: each slot has a fixed number of memories, tables, core
    /// instances and stacks.
    pub(crate) fn slots(self, flavour: Flavour) -> u32 {
        let memories = self.memories.div_ceil(limits::MEMORIES_PER_SLOT);
        let others = self.tables.max(self.core_instances).div_ceil(limits::CORE_INSTANCES_PER_SLOT);
        let stacks = self.stacks(flavour).div_ceil(limits::stacks_per_slot(flavour));
        memories.max(others).max(stacks).max(1)
    }

    /// Returns the stacks that an instance can use concurrently. On a concurrent engine every
    /// component instance may block within one call, and wasmtime keeps one more stack for the next
    /// call.
    fn stacks(self, flavour: Flavour) -> u32 {
        match flavour {
            Flavour::Plain => 1,
            Flavour::Concurrent => self.code_instances.saturating_add(1),
        }
    }
}

/// A module or component that is being parsed, with the modules and components that it can
/// instantiate by index.
#[derive(Default)]
struct Frame {
    is_module: bool,
    /// Whether it instantiates a module itself.
    has_code: bool,
    needs: Needs,
    modules: Vec<Needs>,
    components: Vec<Needs>,
}

impl Frame {
    fn instantiate_module(&mut self, index: u32) {
        let module = self.modules.get(index as usize).copied().unwrap_or_default();
        self.has_code = true;
        self.needs = self.needs.and(module).and(Needs { core_instances: 1, ..Needs::default() });
    }

    /// Adds the resources of an instantiated component. The compiler adds adapter modules for calls
    /// between components that contain code.
    fn instantiate_component(&mut self, index: u32) {
        let component = self.components.get(index as usize).copied().unwrap_or_default();
        let adapters = u32::from(component.core_instances > 0);
        self.needs = self.needs.and(component).and(Needs { core_instances: adapters, ..Needs::default() });
    }
}

/// Computes the pool resources of an instance of this component.
pub(crate) fn needs(component: &[u8]) -> Result<Needs, BinaryReaderError> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut outermost = Needs::default();
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { encoding, .. } => {
                frames.push(Frame { is_module: encoding == Encoding::Module, ..Frame::default() });
            }
            Payload::End(_) => {
                let Some(mut ended) = frames.pop() else { continue };
                ended.needs.code_instances += u32::from(ended.has_code);
                match frames.last_mut() {
                    Some(parent) if ended.is_module => parent.modules.push(ended.needs),
                    Some(parent) => parent.components.push(ended.needs),
                    None => outermost = ended.needs,
                }
            }
            payload => read(&payload, &mut frames)?,
        }
    }
    Ok(outermost)
}

fn read(payload: &Payload<'_>, frames: &mut [Frame]) -> Result<(), BinaryReaderError> {
    let Some((frame, parents)) = frames.split_last_mut() else { return Ok(()) };
    match payload {
        Payload::MemorySection(section) => frame.needs.memories += section.count(),
        Payload::TableSection(section) => frame.needs.tables += section.count(),
        Payload::InstanceSection(section) => {
            for instance in section.clone() {
                if let Instance::Instantiate { module_index, .. } = instance? {
                    frame.instantiate_module(module_index);
                }
            }
        }
        Payload::ComponentInstanceSection(section) => {
            for instance in section.clone() {
                if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                    frame.instantiate_component(component_index);
                }
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section.clone() {
                let (modules, components) = aliased(&alias?, parents);
                frame.modules.extend(modules);
                frame.components.extend(components);
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section.clone() {
                // An imported module is unknown, but the host offers no component and no module to
                // import.
                match import?.ty.kind() {
                    ComponentExternalKind::Module => frame.modules.push(Needs::default()),
                    ComponentExternalKind::Component => frame.components.push(Needs::default()),
                    _ => {}
                }
            }
        }
        Payload::ComponentExportSection(section) => {
            // An export creates another index.
            for export in section.clone() {
                let export = export?;
                let index = export.index as usize;
                match export.kind {
                    ComponentExternalKind::Module => {
                        frame.modules.push(frame.modules.get(index).copied().unwrap_or_default());
                    }
                    ComponentExternalKind::Component => {
                        frame.components.push(frame.components.get(index).copied().unwrap_or_default());
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Returns the module or component that an alias adds. A module or component exported by another
/// instance is unknown and counts as the maximum.
fn aliased(alias: &ComponentAlias<'_>, parents: &[Frame]) -> (Option<Needs>, Option<Needs>) {
    const MOST: u32 = limits::CORE_INSTANCES_PER_COMPONENT_MAX;
    let most = Needs { memories: MOST, tables: MOST, core_instances: MOST, code_instances: MOST };
    match *alias {
        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => (Some(most), None),
        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => (None, Some(most)),
        ComponentAlias::Outer { kind, count, index } => {
            let (count, index) = (count as usize, index as usize);
            let outer = parents.len().checked_sub(count).and_then(|at| parents.get(at));
            match kind {
                // An alias of the component itself, which is not in the list of its parents, adds
                // nothing.
                _ if count == 0 => (None, None),
                ComponentOuterAliasKind::CoreModule => {
                    (Some(outer.and_then(|outer| outer.modules.get(index)).copied().unwrap_or(most)), None)
                }
                ComponentOuterAliasKind::Component => {
                    (None, Some(outer.and_then(|outer| outer.components.get(index)).copied().unwrap_or(most)))
                }
                ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Type => (None, None),
            }
        }
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(text: &str) -> u32 {
        needs(&wat::parse_str(text).unwrap()).unwrap().slots(Flavour::Plain)
    }

    fn repeated(count: usize, text: &str) -> String {
        text.repeat(count)
    }

    #[test]
    fn a_usual_component_takes_one_slot() {
        assert_eq!(slots("(component)"), 1);
        let module = "(core module $m (memory 1) (table 1 funcref))";
        assert_eq!(slots(&format!("(component {module} (core instance (instantiate $m)))")), 1);
        assert_eq!(slots(&format!("(component {module})")), 1, "a module that isn't instantiated takes no slot");
    }

    #[test]
    fn slots_are_computed_for_each_kind_of_resource() {
        let memories = |count| {
            format!("(component (core module $m {}) (core instance (instantiate $m)))", repeated(count, "(memory 1)"))
        };
        assert_eq!([1, 2, 3, 25].map(|count| slots(&memories(count))), [1, 1, 2, 13]);
        let tables = |count| {
            format!(
                "(component (core module $m {}) (core instance (instantiate $m)))",
                repeated(count, "(table 1 funcref)")
            )
        };
        assert_eq!([4, 5, 25].map(|count| slots(&tables(count))), [1, 2, 7]);
        let instances =
            |count| format!("(component (core module $m) {})", repeated(count, "(core instance (instantiate $m))"));
        assert_eq!([4, 5, 14].map(|count| slots(&instances(count))), [1, 2, 4]);
    }

    #[test]
    fn nested_components_count_as_often_as_they_are_instantiated() {
        let inner = "(component $c (core module $m (memory 1) (memory 1)) (core instance (instantiate $m)))";
        let outer = |count| format!("(component {inner} {})", repeated(count, "(instance (instantiate $c))"));
        assert_eq!([0, 1, 3].map(|count| slots(&outer(count))), [1, 1, 3]);
        let twice = format!("(component $d {inner} (instance (instantiate $c)) (instance (instantiate $c)))");
        let deep = format!("(component {twice} (instance (instantiate $d)) (instance (instantiate $d)))");
        assert_eq!(slots(&deep), 4);
        let without_code = "(component (component $t) (instance (instantiate $t)) (instance (instantiate $t)))";
        assert_eq!(slots(without_code), 1);
    }

    #[test]
    fn component_instances_that_can_block_are_counted_on_a_concurrent_engine() {
        let concurrent = |text: &str| needs(&wat::parse_str(text).unwrap()).unwrap().slots(Flavour::Concurrent);
        let inner = "(component $c (core module $m (memory 1)) (core instance (instantiate $m)))";
        let outer = |count| format!("(component {inner} {})", repeated(count, "(instance (instantiate $c))"));
        assert_eq!([1, 2, 3, 4].map(|count| concurrent(&outer(count))), [1, 2, 2, 3]);
        assert_eq!([1, 2, 3, 4].map(|count| slots(&outer(count))), [1, 1, 2, 2]);
        let many = format!("(component (core module $m) {})", repeated(4, "(core instance (instantiate $m))"));
        assert_eq!(concurrent(&many), 1, "core instances of one component share its stack");
    }

    #[test]
    fn a_module_of_an_outer_component_is_resolved() {
        let text = "(component
            (core module $m (memory 1) (memory 1) (memory 1) (memory 1))
            (component $c (alias outer 1 $m (core module $n)) (core instance (instantiate $n)))
            (instance (instantiate $c)) (instance (instantiate $c)))";
        assert_eq!(slots(text), 4);
    }
}
