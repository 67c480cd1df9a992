//! Finds the places of instructions in the source of a component, by its DWARF debug information.
//!
//! Components are untrusted. The search therefore has limited steps, a deadline and bounded memory,
//! and a panic ends it. Never keeps a component.

use crate::{
    backtrace::{Frame, Place},
    dwarf, limits,
    steps::Steps,
};
use std::{
    collections::HashMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};
use wasmparser::{Parser, Payload, TypeRef};

/// Steps for a part of a component, such as a section, an import, or the body of a function.
const STEPS_PER_PAYLOAD: u64 = 4;

/// Returns whether a custom section of a core module lists the lines of its source.
pub(crate) fn is_line_section(name: &str) -> bool {
    name == ".debug_line"
}

/// Returns the places of each frame: first that of the function inlined last. A frame without debug
/// information has none. Returns what was found until the last step.
pub(crate) fn find(component: &[u8], frames: &[Frame], steps: &Steps) -> Vec<Vec<Place>> {
    let mut places = vec![Vec::new(); frames.len()];
    for module in modules(component, frames, steps) {
        let of_module = |frame: &Frame| frame.offset.filter(|offset| module.contains(frame.index, *offset));
        let wanted: Vec<(usize, u64)> = frames
            .iter()
            .enumerate()
            .filter_map(|(index, frame)| Some((index, (of_module(frame)? - module.code_start) as u64)))
            .collect();
        let addresses: Vec<u64> = wanted.iter().map(|(_, address)| *address).collect();
        // gimli doesn't panic on malformed input, except for overflows in builds with overflow
        // checks.
        let search = AssertUnwindSafe(|| dwarf::find(&module.sections, &addresses, steps));
        for ((index, _), found) in wanted.iter().zip(catch_unwind(search).unwrap_or_default()) {
            places[*index] = found;
        }
    }
    places
}

/// A core module with frames.
struct Module<'a> {
    /// The start of the code section's content. DWARF's addresses count from here.
    code_start: usize,
    imported_functions: usize,
    /// The bodies of its functions.
    bodies: Vec<Range<usize>>,
    /// The sections that a search reads, by their names.
    sections: HashMap<&'a str, &'a [u8]>,
}

impl Module<'_> {
    /// Returns whether an instruction is in the function with this index. The code between two
    /// components that wasmtime generates has offsets of its own, and fails this check.
    fn contains(&self, function: u32, offset: usize) -> bool {
        let body = (function as usize).checked_sub(self.imported_functions).and_then(|index| self.bodies.get(index));
        body.is_some_and(|body| body.contains(&offset))
    }
}

/// Returns the core modules of a component that contain frames. The component was validated when it
/// was compiled. If its file was changed since, the modules before the fault are returned.
fn modules<'a>(component: &'a [u8], frames: &[Frame], steps: &Steps) -> Vec<Module<'a>> {
    let (mut found, mut current) = (Vec::new(), None);
    for payload in Parser::new(0).parse_all(component) {
        let (Ok(payload), Ok(())) = (payload, steps.take(STEPS_PER_PAYLOAD)) else { break };
        if let Payload::ModuleSection { unchecked_range: range, .. } = &payload {
            let has_frame = frames.iter().any(|frame| frame.offset.is_some_and(|offset| range.contains(&offset)));
            let empty = Module { code_start: 0, imported_functions: 0, bodies: Vec::new(), sections: HashMap::new() };
            current = has_frame.then_some(empty);
            continue;
        }
        let Some(module) = &mut current else { continue };
        match payload {
            Payload::ImportSection(imports) => {
                let is_function = |ty| matches!(ty, TypeRef::Func(_) | TypeRef::FuncExact(_));
                let imports = imports.into_imports().take_while(|_| steps.take(STEPS_PER_PAYLOAD).is_ok());
                module.imported_functions = imports.flatten().filter(|import| is_function(import.ty)).count();
            }
            Payload::CodeSectionStart { range, .. } => module.code_start = range.start,
            Payload::CodeSectionEntry(body) => module.bodies.push(body.range()),
            Payload::CustomSection(section) if dwarf::reads(section.name()) => {
                module.sections.insert(section.name(), section.data());
            }
            Payload::End(_) => found.extend(current.take().filter(Module::is_within_limits)),
            _ => {}
        }
    }
    found
}

impl Module<'_> {
    /// Returns whether the debug information is small enough to be read.
    fn is_within_limits(&self) -> bool {
        let bytes = |name: &str| self.sections.get(name).map_or(0, |section| section.len());
        bytes(".debug_line") > 0
            && bytes(".debug_line") <= limits::DEBUG_LINE_BYTES_MAX
            && bytes(".debug_abbrev") <= limits::DEBUG_ABBREV_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dwarf::sample;
    use std::time::{Duration, Instant};

    /// Appends a section with its size.
    fn push_section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
        bytes.push(id);
        push_length(bytes, content.len());
        bytes.extend_from_slice(content);
    }

    fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
        while length >= 0x80 {
            bytes.push((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
    }

    /// Returns a component of one module with two functions, the second of which traps, with these
    /// sections of DWARF.
    fn component(sections: &[(String, Vec<u8>)]) -> Vec<u8> {
        let text = r#"(module (import "a" "b" (func)) (func (result i32) i32.const 1) (func unreachable))"#;
        let mut module = wat::parse_str(text).unwrap();
        for (name, content) in sections {
            let mut section = Vec::new();
            push_length(&mut section, name.len());
            section.extend_from_slice(name.as_bytes());
            section.extend_from_slice(content);
            push_section(&mut module, 0, &section);
        }
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        push_section(&mut component, 1, &module);
        component
    }

    /// Returns the offset of the instruction that traps.
    fn trap_of(component: &[u8]) -> usize {
        let bodies = Parser::new(0).parse_all(component).filter_map(|payload| match payload.unwrap() {
            Payload::CodeSectionEntry(body) => Some(body.get_operators_reader().unwrap().original_position()),
            _ => None,
        });
        bodies.last().unwrap()
    }

    fn frame(index: u32, offset: usize) -> Frame {
        Frame { function: "f".to_owned(), index, offset: Some(offset) }
    }

    /// Returns steps that suffice for each search of these tests.
    fn enough() -> Steps {
        Steps::new(10_000_000, Instant::now() + Duration::from_secs(60))
    }

    /// Returns the debug information of the function that traps.
    fn debug_information() -> Vec<(String, Vec<u8>)> {
        let plain = component(&[]);
        let start = Parser::new(0).parse_all(&plain).find_map(|payload| match payload.unwrap() {
            Payload::CodeSectionStart { range, .. } => Some(range.start),
            _ => None,
        });
        sample((trap_of(&plain) - start.unwrap()) as u64)
    }

    #[test]
    fn the_place_of_a_trap_is_found_with_the_function_inlined_there() {
        let component = component(&debug_information());
        let trap = trap_of(&component);
        let places = find(&component, &[frame(2, trap), frame(1, trap), frame(9, trap)], &enough());
        let place = |function: &str, file: &str, line, column| Place {
            function: Some(function.to_owned()),
            file: file.to_owned(),
            line,
            column,
        };
        let expected = vec![place("inner", "src/inner.rs", 7, 3), place("outer", "lib.rs", 40, 9)];
        assert_eq!(places, [expected, Vec::new(), Vec::new()], "the other functions don't contain the instruction");
    }

    #[test]
    fn a_component_without_debug_information_has_no_places() {
        let component = component(&[]);
        assert_eq!(find(&component, &[frame(2, trap_of(&component))], &enough()), [Vec::new()]);
    }

    #[test]
    fn debug_information_beyond_the_limits_is_not_read() {
        let mut sections = debug_information();
        sections.iter_mut().for_each(|(name, content)| {
            if name == ".debug_abbrev" {
                content.resize(limits::DEBUG_ABBREV_BYTES_MAX + 1, 0);
            }
        });
        let component = component(&sections);
        assert_eq!(find(&component, &[frame(2, trap_of(&component))], &enough()), [Vec::new()]);
    }

    #[test]
    fn damaged_debug_information_ends_the_search() {
        let sections = debug_information();
        for (section, (name, content)) in sections.iter().enumerate() {
            for byte in 0..content.len() {
                for value in [0, 0x7f, 0x80, 0xff] {
                    let mut damaged = sections.clone();
                    damaged[section].1[byte] = value;
                    let component = component(&damaged);
                    let places = find(&component, &[frame(2, trap_of(&component))], &enough());
                    assert!(places[0].len() <= limits::INLINED_FRAMES_MAX + 1, "{name} {byte} {value}");
                }
                let mut damaged = sections.clone();
                damaged[section].1.truncate(byte);
                let component = component(&damaged);
                find(&component, &[frame(2, trap_of(&component))], &enough());
            }
        }
    }

    #[test]
    fn an_expired_deadline_ends_the_search() {
        let component = component(&debug_information());
        let past = Steps::new(10_000_000, Instant::now());
        assert_eq!(find(&component, &[frame(2, trap_of(&component))], &past), [Vec::new()]);
    }

    #[test]
    fn only_sections_that_a_search_reads_are_kept() {
        let mut sections = debug_information();
        let kept = sections.len();
        sections.extend((0..10_000).map(|number| (format!(".debug_{number}"), Vec::new())));
        let component = component(&sections);
        let frames = [frame(2, trap_of(&component))];
        let modules = modules(&component, &frames, &enough());
        assert_eq!(modules.iter().map(|module| module.sections.len()).collect::<Vec<_>>(), [kept]);
        assert!(!find(&component, &frames, &enough())[0].is_empty());
    }

    #[test]
    fn the_sections_of_a_component_are_listed_within_the_steps() {
        let many: Vec<_> = (0..10_000).map(|_| (".debug_x".to_owned(), Vec::new())).collect();
        let component = component(&many);
        let few = Steps::new(1_000, Instant::now() + Duration::from_secs(60));
        assert!(modules(&component, &[frame(2, trap_of(&component))], &few).is_empty());
        assert_eq!(few.left(), 0);
    }
}
