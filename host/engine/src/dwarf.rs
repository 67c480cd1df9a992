//! Finds addresses in the line tables of DWARF debug information, and the functions that were
//! inlined there. Never keeps more of it than one compilation unit's header and the places found.

use crate::{backtrace::Place, limits};
use gimli::{
    Abbreviations, AttributeValue, DebugInfoOffset, DebugLineOffset, DebuggingInformationEntry, Dwarf, EndianSlice,
    LittleEndian, RangeIter, Reader as _, Section as _, Unit, UnitHeader, UnitOffset,
};
use std::{collections::HashMap, sync::Arc, time::Instant};

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;

/// Returns the places of each address: first that of the function inlined last.
pub(crate) fn find(sections: &HashMap<&str, &[u8]>, addresses: &[u64], deadline: Instant) -> Vec<Vec<Place>> {
    let load = |id: gimli::SectionId| {
        let bytes = sections.get(id.name()).copied().unwrap_or_default();
        Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
    };
    let wanted = addresses.iter().map(|address| Wanted { address: *address, ..Wanted::default() }).collect();
    let Ok(dwarf) = Dwarf::load(load) else { return Vec::new() };
    let mut search = Search { dwarf, wanted, steps: Steps { deadline, since_check: 0 } };
    // The places that were found before the fault or the deadline are returned.
    let _ = search.run();
    search.wanted.into_iter().map(Wanted::into_places).collect()
}

/// Why a search ended early.
enum Stop {
    OutOfTime,
    Malformed,
}

impl From<gimli::Error> for Stop {
    fn from(_: gimli::Error) -> Self {
        Self::Malformed
    }
}

/// Limits the time of a search. Each step takes a bounded time.
struct Steps {
    deadline: Instant,
    since_check: u32,
}

impl Steps {
    fn next(&mut self, steps: u32) -> Result<(), Stop> {
        self.since_check += steps;
        if self.since_check < limits::SYMBOLS_STEPS_PER_CHECK {
            return Ok(());
        }
        self.since_check = 0;
        if Instant::now() < self.deadline { Ok(()) } else { Err(Stop::OutOfTime) }
    }
}

/// A line of the source.
#[derive(Clone)]
struct Line {
    file: String,
    line: u64,
    column: u64,
}

/// A function that contains an address: the one that was compiled, or one inlined into it.
struct Function {
    name: Option<String>,
    /// Where it was inlined.
    call: Option<Line>,
}

/// An address whose places are searched for.
#[derive(Default)]
struct Wanted {
    address: u64,
    line: Option<Line>,
    /// Outermost first.
    functions: Vec<Function>,
}

impl Wanted {
    fn into_places(self) -> Vec<Place> {
        let mut next = self.line;
        let mut places = Vec::new();
        let place = |function, line: Line| Place { function, file: line.file, line: line.line, column: line.column };
        for function in self.functions.into_iter().rev() {
            let Some(line) = next else { return places };
            places.push(place(function.name, line));
            next = function.call;
        }
        if places.is_empty() {
            places.extend(next.map(|line| place(None, line)));
        }
        places
    }
}

struct Search<'a> {
    dwarf: Dwarf<Slice<'a>>,
    wanted: Vec<Wanted>,
    steps: Steps,
}

impl<'a> Search<'a> {
    fn run(&mut self) -> Result<(), Stop> {
        let mut headers = self.dwarf.units();
        while let Some(header) = headers.next()? {
            // A unit may take long to read.
            self.steps.next(limits::SYMBOLS_STEPS_PER_CHECK)?;
            match self.unit(header) {
                Ok(()) | Err(Stop::Malformed) => {}
                Err(Stop::OutOfTime) => return Err(Stop::OutOfTime),
            }
        }
        Ok(())
    }

    fn unit(&mut self, header: UnitHeader<Slice<'a>>) -> Result<(), Stop> {
        let abbreviations = self.dwarf.abbreviations(&header)?;
        self.check_line_header(&header, &abbreviations)?;
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
    fn check_line_header(&self, header: &UnitHeader<Slice<'a>>, abbreviations: &Abbreviations) -> Result<(), Stop> {
        let mut entries = header.entries(abbreviations);
        let root = entries.next_dfs()?.ok_or(Stop::Malformed)?;
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
        if bytes <= limits::DEBUG_LINE_HEADER_BYTES_MAX { Ok(()) } else { Err(Stop::Malformed) }
    }

    /// Returns which of the wanted addresses are in the ranges.
    fn covered(&mut self, mut ranges: RangeIter<Slice<'a>>) -> Result<Vec<usize>, Stop> {
        let mut covered = Vec::new();
        while let Some(range) = ranges.next()? {
            self.steps.next(1)?;
            for (index, wanted) in self.wanted.iter().enumerate() {
                if (range.begin..range.end).contains(&wanted.address) && !covered.contains(&index) {
                    covered.push(index);
                }
            }
        }
        Ok(covered)
    }

    /// Finds the lines of the covered addresses.
    fn lines(&mut self, unit: &Unit<Slice<'a>>, covered: &[usize]) -> Result<(), Stop> {
        let Some(program) = unit.line_program.clone() else { return Ok(()) };
        let mut rows = program.rows();
        let mut before: Option<gimli::LineRow> = None;
        while let Some((_, row)) = rows.next_row()? {
            self.steps.next(1)?;
            if let Some(before) = before.filter(|before| before.address() < row.address()) {
                for index in covered {
                    let wanted = &mut self.wanted[*index];
                    if (before.address()..row.address()).contains(&wanted.address) {
                        let line = before.line().map_or(0, std::num::NonZero::get);
                        let column = match before.column() {
                            gimli::ColumnType::LeftEdge => 0,
                            gimli::ColumnType::Column(column) => column.get(),
                        };
                        let file = path(&self.dwarf, unit, before.file_index());
                        wanted.line = file.map(|file| Line { file, line, column });
                    }
                }
            }
            before = (!row.end_sequence()).then_some(*row);
        }
        Ok(())
    }

    /// Finds the functions that contain the wanted addresses in a unit.
    fn functions(&mut self, unit: &Unit<Slice<'a>>) -> Result<(), Stop> {
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            // The number of attributes of an entry is not limited by its size.
            self.steps.next(1 + u32::try_from(entry.attrs().len()).unwrap_or(u32::MAX / 2))?;
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
            let call = if is_inlined { call_of(&self.dwarf, unit, entry) } else { None };
            for index in covered {
                let functions = &mut self.wanted[index].functions;
                if !is_inlined {
                    functions.clear();
                }
                if functions.len() <= limits::INLINED_FRAMES_MAX {
                    functions.push(Function { name: name.clone(), call: call.clone() });
                }
            }
        }
        Ok(())
    }

    /// Returns the name of a function, which may be that of the entry it was inlined from.
    fn name(&mut self, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Result<Option<String>, Stop> {
        let string = |dwarf: &Dwarf<Slice<'a>>, value| dwarf.attr_string(unit, value).ok();
        if let Some(value) = own_name(entry) {
            return Ok(string(&self.dwarf, value).map(text));
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
            self.steps.next(limits::SYMBOLS_STEPS_PER_CHECK)?;
            let entry = header.entry(&abbreviations, offset)?;
            if let Some(value) = own_name(&entry) {
                // An index into the strings of another unit needs that unit's base, and is rare.
                let is_same = header.offset() == unit.header.offset();
                let name = if is_same { string(&self.dwarf, value) } else { self.dwarf.attr_line_string(value).ok() };
                return Ok(name.map(text));
            }
            origin = origin_of(&entry);
        }
        Ok(None)
    }

    /// Returns the unit that contains an offset of `.debug_info`, and the offset in it.
    fn unit_at(&mut self, offset: DebugInfoOffset) -> Result<Option<(UnitHeader<Slice<'a>>, UnitOffset)>, Stop> {
        let mut headers = self.dwarf.units();
        while let Some(header) = headers.next()? {
            self.steps.next(1)?;
            if let Some(offset) = offset.to_unit_offset(&header) {
                return Ok(Some((header, offset)));
            }
        }
        Ok(None)
    }
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
fn own_name<'a>(entry: &Entry<'a>) -> Option<AttributeValue<Slice<'a>>> {
    entry.attr_value(gimli::DW_AT_linkage_name).or_else(|| entry.attr_value(gimli::DW_AT_name))
}

/// Returns where a function was inlined.
fn call_of<'a>(dwarf: &Dwarf<Slice<'a>>, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Option<Line> {
    let number = |name| entry.attr_value(name).and_then(|value| value.udata_value()).unwrap_or_default();
    let file = match entry.attr_value(gimli::DW_AT_call_file)? {
        AttributeValue::FileIndex(index) => index,
        value => value.udata_value()?,
    };
    let file = path(dwarf, unit, file)?;
    Some(Line { file, line: number(gimli::DW_AT_call_line), column: number(gimli::DW_AT_call_column) })
}

/// Returns the path of a file of a unit, relative to the folder of its compilation.
fn path<'a>(dwarf: &Dwarf<Slice<'a>>, unit: &Unit<Slice<'a>>, index: u64) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(index)?;
    let name = text(dwarf.attr_string(unit, file.path_name()).ok()?);
    let folder = match file.directory_index() {
        0 => None,
        _ => file.directory(header).and_then(|folder| dwarf.attr_string(unit, folder).ok()).map(text),
    };
    let path = match folder {
        Some(folder) if !name.starts_with('/') => format!("{folder}/{name}"),
        _ => name,
    };
    let path = isopod_policy::text::printable_line(&path);
    // The end of a path identifies the file.
    let start = path.ceil_char_boundary(path.len().saturating_sub(limits::BACKTRACE_PATH_BYTES_MAX));
    Some(if start == 0 { path.into_owned() } else { format!("…{}", &path[start..]) })
}

/// Returns the start of a text in DWARF, which may be long.
fn text(bytes: Slice<'_>) -> String {
    let bytes = bytes.slice();
    String::from_utf8_lossy(&bytes[..bytes.len().min(limits::DEBUG_TEXT_BYTES_MAX)]).into_owned()
}

#[cfg(test)]
pub(crate) use tests::sample;

#[cfg(test)]
mod tests {
    use super::*;
    use gimli::write::{
        Address, AttributeValue, DwarfUnit, EndianVec, LineProgram, LineString, Range, RangeList, Sections,
    };
    use std::time::Duration;

    /// Returns the sections of a unit in which the instruction at `address` belongs to `inner`,
    /// line 7, inlined into `outer` at line 40.
    pub(crate) fn sample(address: u64) -> Vec<(String, Vec<u8>)> {
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
        let origin = dwarf.unit.add(root, gimli::DW_TAG_subprogram);
        dwarf.unit.get_mut(origin).set(gimli::DW_AT_name, text("inner"));
        let outer = dwarf.unit.add(root, gimli::DW_TAG_subprogram);
        let inlined = dwarf.unit.add(outer, gimli::DW_TAG_inlined_subroutine);
        let entry = dwarf.unit.get_mut(outer);
        entry.set(gimli::DW_AT_linkage_name, text("outer"));
        entry.set(gimli::DW_AT_ranges, ranges.clone());
        let entry = dwarf.unit.get_mut(inlined);
        entry.set(gimli::DW_AT_abstract_origin, AttributeValue::UnitRef(origin));
        entry.set(gimli::DW_AT_ranges, ranges);
        entry.set(gimli::DW_AT_call_file, AttributeValue::FileIndex(Some(lib)));
        entry.set(gimli::DW_AT_call_line, AttributeValue::Udata(40));
        entry.set(gimli::DW_AT_call_column, AttributeValue::Udata(9));
        let mut sections = Sections::new(EndianVec::new(LittleEndian));
        dwarf.write(&mut sections).unwrap();
        let mut written = Vec::new();
        let keep = |id: gimli::SectionId, bytes: &EndianVec<LittleEndian>| {
            if !bytes.slice().is_empty() {
                written.push((id.name().to_owned(), bytes.slice().to_vec()));
            }
            Ok::<_, gimli::Error>(())
        };
        sections.for_each(keep).unwrap();
        written
    }

    fn search(sections: &[(String, Vec<u8>)], addresses: &[u64]) -> Vec<Vec<Place>> {
        let sections = sections.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        find(&sections, addresses, Instant::now() + Duration::from_secs(60))
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
    fn a_unit_with_a_large_header_of_lines_is_skipped() {
        let mut sections = sample(100);
        let table = sections.iter_mut().find(|(name, _)| name == ".debug_line").unwrap();
        // The length of the header, behind the length of the table and its version.
        table.1[6..10].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(search(&sections, &[100]), [Vec::new()]);
    }
}
