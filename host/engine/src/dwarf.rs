//! Finds addresses in the line tables of DWARF debug information, and the functions that were
//! inlined there. Keeps at most the header of one compilation unit, and the places found.

use crate::{
    backtrace::Place,
    limits,
    steps::{Counted, Steps},
};
use gimli::{
    Abbreviations, AttributeValue, DebugInfoOffset, DebugLineOffset, DebuggingInformationEntry, Dwarf, Error,
    FileEntry, LineProgramHeader, LineRow, RangeIter, Reader as _, Result, Section as _, Unit, UnitHeader, UnitOffset,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// The sections that a search reads.
const SECTIONS: [&str; 9] = [
    ".debug_abbrev",
    ".debug_addr",
    ".debug_info",
    ".debug_line",
    ".debug_line_str",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_str",
    ".debug_str_offsets",
];

/// Returns whether a search reads the section with this name.
pub(crate) fn reads(name: &str) -> bool {
    SECTIONS.contains(&name)
}

/// Returns the places of each address: first that of the function inlined last.
pub(crate) fn find<'a>(sections: &HashMap<&str, &'a [u8]>, addresses: &[u64], steps: &'a Steps) -> Vec<Vec<Place>> {
    let load = |id: gimli::SectionId| {
        let bytes = sections.get(id.name()).copied().unwrap_or_default();
        Ok::<_, Error>(Counted::new(bytes, steps))
    };
    let wanted = addresses.iter().map(|address| Wanted { address: *address, ..Wanted::default() }).collect();
    let Ok(dwarf) = Dwarf::load(load) else { return Vec::new() };
    let mut search = Search { dwarf, wanted, steps };
    // The places that were found before the fault or the last step are returned.
    let _ = search.run();
    search.wanted.into_iter().map(Wanted::into_places).collect()
}

/// A line of the source.
#[derive(Clone)]
struct Line {
    file: String,
    line: u64,
    column: u64,
}

/// A compiled function that contains an address, or a function inlined into it.
struct Function {
    name: Option<String>,
    /// The line at which the next function was inlined into this one.
    line: Option<Line>,
}

/// An address and its places.
#[derive(Default)]
struct Wanted {
    address: u64,
    /// The line in the innermost function.
    line: Option<Line>,
    /// Outermost first: the compiled function, then the innermost inlined functions.
    functions: VecDeque<Function>,
}

impl Wanted {
    /// Adds a function that was inlined at `call` into the function added last.
    fn add_inlined(&mut self, name: Option<String>, call: Option<Line>) {
        if let Some(outer) = self.functions.back_mut() {
            outer.line = call;
        }
        if self.functions.len() > limits::INLINED_FRAMES_MAX {
            self.functions.remove(1);
        }
        self.functions.push_back(Function { name, line: None });
    }

    fn into_places(mut self) -> Vec<Place> {
        let place = |function, line: Line| Place { function, file: line.file, line: line.line, column: line.column };
        match self.functions.back_mut() {
            Some(innermost) => innermost.line = self.line,
            None => return self.line.map(|line| place(None, line)).into_iter().collect(),
        }
        let innermost_first = self.functions.into_iter().rev();
        innermost_first.map_while(|function| Some(place(function.name, function.line?))).collect()
    }
}

struct Search<'a> {
    dwarf: Dwarf<Counted<'a>>,
    wanted: Vec<Wanted>,
    steps: &'a Steps,
}

type Entry<'a> = DebuggingInformationEntry<Counted<'a>>;

impl<'a> Search<'a> {
    fn run(&mut self) -> Result<()> {
        let mut headers = self.dwarf.units();
        while let Some(header) = headers.next()? {
            // A malformed unit is skipped. Without steps, the next header can't be read either.
            let _ = self.unit(header);
        }
        Ok(())
    }

    fn unit(&mut self, header: UnitHeader<Counted<'a>>) -> Result<()> {
        let abbreviations = self.dwarf.abbreviations(&header)?;
        self.check(&header, &abbreviations)?;
        let unit = Unit::new_with_abbreviations(&self.dwarf, header, abbreviations)?;
        let covered = self.covered(self.dwarf.unit_ranges(&unit)?)?;
        if covered.is_empty() {
            return Ok(());
        }
        self.lines(&unit, &covered)?;
        self.functions(&unit)
    }

    /// Checks the size of a unit's line table header before it is read: its lists take many times
    /// as much memory.
    fn check(&self, header: &UnitHeader<Counted<'a>>, abbreviations: &Abbreviations) -> Result<()> {
        let mut entries = header.entries(abbreviations);
        let root = entries.next_dfs()?.ok_or(Error::MissingUnitDie)?;
        // The entry is read three times more.
        self.take_steps_for(root, 4)?;
        let Some(AttributeValue::DebugLineRef(DebugLineOffset(offset))) = root.attr_value(gimli::DW_AT_stmt_list)
        else {
            return Ok(());
        };
        let mut table = *self.dwarf.debug_line.reader();
        table.skip(offset)?;
        let (_, format) = table.read_initial_length()?;
        if table.read_u16()? >= 5 {
            // The sizes of addresses and of segment selectors.
            table.skip(2)?;
        }
        let bytes = table.read_length(format)?;
        if bytes <= limits::DEBUG_LINE_HEADER_BYTES_MAX { Ok(()) } else { Err(Error::UnsupportedOffset) }
    }

    /// Takes the steps for reading an entry. Attributes may have no bytes, so the number of
    /// attributes isn't limited by the size of the entry.
    fn take_steps_for(&self, entry: &Entry<'a>, times: u64) -> Result<()> {
        self.steps.take(times * (1 + entry.attrs().len() as u64))
    }

    /// Returns which of the wanted addresses are in the ranges.
    fn covered(&mut self, mut ranges: RangeIter<Counted<'a>>) -> Result<Vec<usize>> {
        let mut covered = Vec::new();
        while let Some(range) = ranges.next()? {
            self.steps.take(1)?;
            for (index, wanted) in self.wanted.iter().enumerate() {
                if (range.begin..range.end).contains(&wanted.address) && !covered.contains(&index) {
                    covered.push(index);
                }
            }
        }
        Ok(covered)
    }

    /// Finds the lines of the covered addresses.
    fn lines(&mut self, unit: &Unit<Counted<'a>>, covered: &[usize]) -> Result<()> {
        let Some(program) = &unit.line_program else { return Ok(()) };
        let header = program.header();
        let (mut instructions, mut row) = (header.instructions(), LineRow::new(header));
        let mut before: Option<LineRow> = None;
        while let Some(instruction) = instructions.next_instruction(header)? {
            if !row.execute(instruction, &mut FixedFiles(header))? {
                continue;
            }
            // Rows of removed code have the address of the row before, and so contain no address.
            if let Some(before) = before.filter(|before| before.address() < row.address()) {
                for index in covered {
                    if (before.address()..row.address()).contains(&self.wanted[*index].address) {
                        self.wanted[*index].line = self.line(unit, &before)?;
                    }
                }
            }
            before = (!row.end_sequence()).then_some(row);
            row.reset(header);
        }
        Ok(())
    }

    /// Returns the line of a row, if its file is known.
    fn line(&self, unit: &Unit<Counted<'a>>, row: &LineRow) -> Result<Option<Line>> {
        let line = row.line().map_or(0, std::num::NonZero::get);
        let column = match row.column() {
            gimli::ColumnType::LeftEdge => 0,
            gimli::ColumnType::Column(column) => column.get(),
        };
        Ok(self.path(unit, row.file_index())?.map(|file| Line { file, line, column }))
    }

    /// Finds the functions that contain the wanted addresses in a unit.
    fn functions(&mut self, unit: &Unit<Counted<'a>>) -> Result<()> {
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            self.take_steps_for(entry, 1)?;
            let is_inlined = match entry.tag() {
                gimli::DW_TAG_inlined_subroutine => true,
                gimli::DW_TAG_subprogram => false,
                _ => continue,
            };
            let covered = self.covered(self.dwarf.die_ranges(unit, entry)?)?;
            if covered.is_empty() {
                continue;
            }
            let name = self.name(unit, entry)?;
            let call = if is_inlined { self.call_of(unit, entry)? } else { None };
            for index in covered {
                // The name and the path are copied.
                self.steps.take(16)?;
                let wanted = &mut self.wanted[index];
                if !is_inlined {
                    wanted.functions.clear();
                }
                wanted.add_inlined(name.clone(), call.clone());
            }
        }
        Ok(())
    }

    /// Returns the name of a function, which may be that of the entry it was inlined from.
    fn name(&self, unit: &Unit<Counted<'a>>, entry: &Entry<'a>) -> Result<Option<String>> {
        if let Some(value) = own_name(entry) {
            return self.text(self.dwarf.attr_string(unit, value));
        }
        let mut origin = origin_of(entry);
        let (mut header, mut abbreviations) = (unit.header, Arc::clone(&unit.abbreviations));
        for _ in 0..limits::ORIGINS_MAX {
            let offset = match origin {
                None => return Ok(None),
                Some(Origin::SameUnit(offset)) => offset,
                Some(Origin::Section(offset)) => {
                    let Some((of, offset)) = self.unit_at(offset)? else { return Ok(None) };
                    (header, abbreviations) = (of, self.dwarf.abbreviations(&of)?);
                    offset
                }
            };
            let entry = header.entry(&abbreviations, offset)?;
            self.take_steps_for(&entry, 1)?;
            if let Some(value) = own_name(&entry) {
                // An index into the strings of another unit needs that unit's base, and is rare.
                let is_same = header.offset() == unit.header.offset();
                return self.text(match is_same {
                    true => self.dwarf.attr_string(unit, value),
                    false => self.dwarf.attr_line_string(value),
                });
            }
            origin = origin_of(&entry);
        }
        Ok(None)
    }

    /// Returns the unit that contains an offset of `.debug_info`, and the offset in it.
    fn unit_at(&self, offset: DebugInfoOffset) -> Result<Option<(UnitHeader<Counted<'a>>, UnitOffset)>> {
        let mut headers = self.dwarf.units();
        while let Some(header) = headers.next()? {
            if let Some(offset) = offset.to_unit_offset(&header) {
                return Ok(Some((header, offset)));
            }
        }
        Ok(None)
    }

    /// Returns where a function was inlined.
    fn call_of(&self, unit: &Unit<Counted<'a>>, entry: &Entry<'a>) -> Result<Option<Line>> {
        let number = |name| entry.attr_value(name).and_then(|value| value.udata_value());
        let file = match entry.attr_value(gimli::DW_AT_call_file) {
            Some(AttributeValue::FileIndex(index)) => Some(index),
            value => value.and_then(|value| value.udata_value()),
        };
        let Some(file) = file else { return Ok(None) };
        let line = number(gimli::DW_AT_call_line).unwrap_or_default();
        let column = number(gimli::DW_AT_call_column).unwrap_or_default();
        Ok(self.path(unit, file)?.map(|file| Line { file, line, column }))
    }

    /// Returns the path of a file of a unit, relative to the folder of its compilation.
    fn path(&self, unit: &Unit<Counted<'a>>, index: u64) -> Result<Option<String>> {
        let Some(header) = unit.line_program.as_ref().map(|program| program.header()) else { return Ok(None) };
        let Some(file) = header.file(index) else { return Ok(None) };
        let Some(name) = self.text(self.dwarf.attr_string(unit, file.path_name()))? else { return Ok(None) };
        let folder = match file.directory_index() {
            0 => None,
            _ => match file.directory(header) {
                Some(folder) => self.text(self.dwarf.attr_string(unit, folder))?,
                None => None,
            },
        };
        let path = match folder {
            Some(folder) if !name.starts_with('/') => format!("{folder}/{name}"),
            _ => name,
        };
        let path = isopod_policy::text::printable_line(&path);
        // The end of a path identifies the file.
        let start = path.ceil_char_boundary(path.len().saturating_sub(limits::BACKTRACE_PATH_BYTES_MAX));
        Ok(Some(if start == 0 { path.into_owned() } else { format!("…{}", &path[start..]) }))
    }

    /// Returns the start of a text, which may be long. A text that can't be read is `None`; its
    /// search may have used all steps.
    fn text(&self, text: Result<Counted<'a>>) -> Result<Option<String>> {
        match text {
            Ok(text) => text.text(limits::DEBUG_TEXT_BYTES_MAX).map(Some),
            Err(_) => self.steps.take(1).map(|()| None),
        }
    }
}

/// A line program that ignores the files of its instructions: each would take memory.
struct FixedFiles<'u, 'a>(&'u LineProgramHeader<Counted<'a>>);

impl<'a> gimli::LineProgram<Counted<'a>> for FixedFiles<'_, 'a> {
    fn header(&self) -> &LineProgramHeader<Counted<'a>> {
        self.0
    }

    fn add_file(&mut self, _: FileEntry<Counted<'a>>) {}
}

/// The entry that describes a function from which another was inlined.
enum Origin {
    SameUnit(UnitOffset),
    Section(DebugInfoOffset),
}

fn origin_of(entry: &Entry<'_>) -> Option<Origin> {
    let value = entry.attr_value(gimli::DW_AT_abstract_origin).or_else(|| entry.attr_value(gimli::DW_AT_specification));
    match value? {
        AttributeValue::UnitRef(offset) => Some(Origin::SameUnit(offset)),
        AttributeValue::DebugInfoRef(offset) => Some(Origin::Section(offset)),
        _ => None,
    }
}

/// Returns the name of a function for the linker, which includes its path, or its plain name.
fn own_name<'a>(entry: &Entry<'a>) -> Option<AttributeValue<Counted<'a>>> {
    entry.attr_value(gimli::DW_AT_linkage_name).or_else(|| entry.attr_value(gimli::DW_AT_name))
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
pub(crate) use tests::sample;

#[cfg(test)]
mod tests {
    use super::*;
    use gimli::{
        LittleEndian,
        write::{Address, AttributeValue, DwarfUnit, EndianVec, LineProgram, LineString, Range, RangeList, Sections},
    };
    use std::time::{Duration, Instant};

    /// Returns the sections of a unit in which the instruction at `address` belongs to `inner`,
    /// line 7, inlined into `outer` at line 40.
    pub(crate) fn sample(address: u64) -> Vec<(String, Vec<u8>)> {
        nested(address, &[("inner", 40)])
    }

    /// Returns the sections of a unit in which the instruction at `address` belongs, at line 7, to
    /// the last of some functions, each inlined at its line into the one before, and the first one
    /// into `outer`.
    fn nested(address: u64, inlined: &[(&str, u64)]) -> Vec<(String, Vec<u8>)> {
        let encoding = gimli::Encoding { format: gimli::Format::Dwarf32, version: 4, address_size: 4 };
        let mut dwarf = DwarfUnit::new(encoding);
        let string = |text: &str| LineString::String(text.as_bytes().to_vec());
        let (folder, name) = (string("/project"), string("lib.rs"));
        let mut lines = LineProgram::new(encoding, gimli::LineEncoding::default(), folder, None, name, None);
        let lib = lines.add_file(string("lib.rs"), lines.default_directory(), None);
        let src = lines.add_directory(string("src"));
        let inner_file = lines.add_file(string("inner.rs"), src, None);
        lines.begin_sequence(Some(Address::Constant(address)));
        for (offset, line, column) in [(0, 7, 3), (1, 8, 0)] {
            let row = lines.row();
            (row.address_offset, row.file, row.line, row.column) = (offset, inner_file, line, column);
            lines.generate_row();
        }
        lines.end_sequence(2);
        dwarf.unit.line_program = lines;
        let range = Range::StartLength { begin: Address::Constant(address), length: 2 };
        let ranges = AttributeValue::RangeListRef(dwarf.unit.ranges.add(RangeList(vec![range])));
        let text = |text: &str| AttributeValue::String(text.as_bytes().to_vec());
        let root = dwarf.unit.root();
        dwarf.unit.get_mut(root).set(gimli::DW_AT_ranges, ranges.clone());
        dwarf.unit.get_mut(root).set(gimli::DW_AT_low_pc, AttributeValue::Address(Address::Constant(0)));
        let mut outer = dwarf.unit.add(root, gimli::DW_TAG_subprogram);
        let entry = dwarf.unit.get_mut(outer);
        entry.set(gimli::DW_AT_linkage_name, text("outer"));
        entry.set(gimli::DW_AT_ranges, ranges.clone());
        for (name, line) in inlined {
            let origin = dwarf.unit.add(root, gimli::DW_TAG_subprogram);
            dwarf.unit.get_mut(origin).set(gimli::DW_AT_name, text(name));
            outer = dwarf.unit.add(outer, gimli::DW_TAG_inlined_subroutine);
            let entry = dwarf.unit.get_mut(outer);
            entry.set(gimli::DW_AT_abstract_origin, AttributeValue::UnitRef(origin));
            entry.set(gimli::DW_AT_ranges, ranges.clone());
            entry.set(gimli::DW_AT_call_file, AttributeValue::FileIndex(Some(lib)));
            entry.set(gimli::DW_AT_call_line, AttributeValue::Udata(*line));
            entry.set(gimli::DW_AT_call_column, AttributeValue::Udata(9));
        }
        let mut sections = Sections::new(EndianVec::new(LittleEndian));
        dwarf.write(&mut sections).unwrap();
        let mut written = Vec::new();
        let keep = |id: gimli::SectionId, bytes: &EndianVec<LittleEndian>| {
            if !bytes.slice().is_empty() {
                written.push((id.name().to_owned(), bytes.slice().to_vec()));
            }
            Ok::<_, Error>(())
        };
        sections.for_each(keep).unwrap();
        written
    }

    fn steps(most: u64) -> Steps {
        Steps::new(most, Instant::now() + Duration::from_secs(60))
    }

    fn search_within(sections: &[(String, Vec<u8>)], addresses: &[u64], steps: &Steps) -> Vec<Vec<Place>> {
        let sections = sections.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        find(&sections, addresses, steps)
    }

    fn search(sections: &[(String, Vec<u8>)], addresses: &[u64]) -> Vec<Vec<Place>> {
        search_within(sections, addresses, &steps(1_000_000))
    }

    #[test]
    fn only_the_rows_that_contain_an_address_count() {
        let sections = sample(100);
        let lines = |addresses: &[u64]| -> Vec<Vec<u64>> {
            let places = search(&sections, addresses);
            places.iter().map(|places| places.iter().map(|place| place.line).collect()).collect()
        };
        assert_eq!(lines(&[99, 100, 101, 102]), [vec![], vec![7, 40], vec![8, 40], vec![]]);
    }

    #[test]
    fn the_innermost_of_many_inlined_functions_are_kept_each_at_its_own_line() {
        let names: Vec<String> = (1..=20).map(|depth| format!("f{depth}")).collect();
        let inlined: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(101..).collect();
        let places = search(&nested(100, &inlined), &[100]).remove(0);
        let found: Vec<(String, u64)> =
            places.into_iter().map(|place| (place.function.unwrap_or_default(), place.line)).collect();
        // The innermost one is at the line of the instruction, `f19` at that of the call of `f20`.
        let mut expected = vec![("f20".to_owned(), 7)];
        let kept = (21 - limits::INLINED_FRAMES_MAX as u64..=19).rev();
        expected.extend(kept.map(|depth| (format!("f{depth}"), 100 + depth + 1)));
        expected.push(("outer".to_owned(), 101));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_unit_with_a_large_header_of_lines_is_skipped() {
        let mut sections = sample(100);
        let table = sections.iter_mut().find(|(name, _)| name == ".debug_line").unwrap();
        // The length of the header, behind the length of the table and its version.
        table.1[6..10].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(search(&sections, &[100]), [Vec::new()]);
    }

    #[test]
    fn every_hostile_search_ends_within_its_steps() {
        for (name, sections) in hostile::all() {
            // The search would take many times as many steps.
            let few = steps(200_000);
            let addresses: Vec<u64> = (100..132).collect();
            search_within(&sections, &addresses, &few);
            assert_eq!(few.left(), 0, "{name}: all steps are taken");
        }
    }

    #[test]
    fn files_that_instructions_define_take_no_memory() {
        let files = |file: u8| -> Vec<String> {
            let places = search(&hostile::defined_files(file), &[100]).remove(0);
            places.into_iter().map(|place| place.file).collect()
        };
        assert_eq!(files(1), ["a"], "the file of the header");
        assert!(files(2).is_empty(), "a file of the instructions");
    }
}
