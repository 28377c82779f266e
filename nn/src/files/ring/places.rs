//! Where sectors and records lie in a flash: it follows from the flash's sizes and the numbers of a record.

use crate::files::flash::check_units;

/// Bytes of a sector's head.
pub(super) const HEAD: usize = 64;
/// Bytes of a record before its numbers.
pub(super) const MARK: usize = 24;
/// The most numbers of a record.
const MOST: usize = 1 << 20;

/// Sizes in bytes, and how many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Places {
    /// Numbers of a record.
    pub(super) numbers: usize,
    /// Bytes that are erased at once.
    pub(super) page: usize,
    /// Bytes of a sector: some pages.
    pub(super) sector: usize,
    /// Sectors.
    pub(super) sectors: usize,
    /// Records of a sector.
    pub(super) slots: usize,
    head: usize,
    mark: usize,
    /// From one record to the next.
    pub(super) stride: usize,
}

impl Places {
    /// In a flash of `size` bytes. A sector is a page, or as many as leave at most an eighth of it unused.
    pub(super) fn new(size: usize, page: usize, unit: usize, numbers: usize) -> Result<Places, &'static str> {
        let one = Places::of_sector(1, page, unit, numbers)?;
        if !size.is_multiple_of(page) {
            return Err("its size must be a multiple of a page");
        }
        let pages = size / page;
        let (mut best, mut records) = (None, 0);
        for count in 1..=(pages / 2).min(one.most_pages()) {
            let places = Places { sectors: pages / count, ..Places::of_sector(count, page, unit, numbers)? };
            if places.slots > 0 && places.is_well_used() {
                return Ok(places);
            }
            if places.slots * places.sectors > records {
                records = places.slots * places.sectors;
                best = Some(places);
            }
        }
        best.ok_or("it must have room for two sectors of a record: see `Ring::flash_bytes`")
    }

    /// Bytes of flash that always hold so many of the newest records.
    pub(super) fn flash_bytes(numbers: usize, records: usize, page: usize, unit: usize) -> Result<usize, &'static str> {
        let one = Places::of_sector(1, page, unit, numbers)?;
        for count in 1..=one.most_pages() {
            let places = Places::of_sector(count, page, unit, numbers)?;
            if places.slots > 0 && places.is_well_used() {
                let sectors = records.max(1).div_ceil(places.slots).checked_add(1);
                let bytes = sectors.and_then(|sectors| sectors.checked_mul(places.sector));
                return bytes.ok_or("so many records do not fit the address space");
            }
        }
        Err("a page is larger than the address space allows")
    }

    fn of_sector(pages: usize, page: usize, unit: usize, numbers: usize) -> Result<Places, &'static str> {
        check_units(page, unit)?;
        if numbers == 0 || numbers > MOST {
            return Err("a record has 1 to 1048576 numbers");
        }
        let (head, mark) = (HEAD.next_multiple_of(unit), MARK.next_multiple_of(unit));
        let stride = mark + (4 * numbers).next_multiple_of(unit);
        let sector =
            pages.checked_mul(page).filter(|bytes| *bytes <= isize::MAX as usize).ok_or("a page does not fit the address space")?;
        let slots = sector.saturating_sub(head) / stride;
        Ok(Places { numbers, page, sector, sectors: 0, slots, head, mark, stride })
    }

    /// Pages of a sector of which an eighth or less is unused, however long a record is.
    fn most_pages(&self) -> usize {
        (8 * self.stride + self.head) / self.page + 1
    }

    fn is_well_used(&self) -> bool {
        (self.sector - self.head - self.slots * self.stride) / self.sector.div_ceil(8) == 0
    }

    /// Where a record begins.
    pub(super) fn record(&self, sector: usize, slot: usize) -> usize {
        sector * self.sector + self.head + slot * self.stride
    }

    /// Where its numbers begin.
    pub(super) fn numbers_of(&self, sector: usize, slot: usize) -> usize {
        self.record(sector, slot) + self.mark
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::Places;

    #[test]
    fn records_lie_in_sectors_and_apart() {
        for (page, unit, numbers) in
            [(128, 1, 2), (128, 4, 3), (2048, 8, 512), (2048, 8, 64), (4096, 16, 512), (131072, 32, 512), (256, 64, 64), (512, 2, 100)]
        {
            for records in [1, 2, 7, 8, 200] {
                let bytes = Places::flash_bytes(numbers, records, page, unit).expect("a size");
                let places = Places::new(bytes, page, unit, numbers).expect("places");
                assert_eq!(places.sectors * places.sector, bytes, "{places:?}");
                assert!((places.sectors - 1) * places.slots >= records && places.sector.is_multiple_of(page));
                for slot in 0..places.slots {
                    let (at, end) = (places.record(1, slot), places.numbers_of(1, slot) + 4 * numbers);
                    assert!(at >= places.sector + 64 && at.is_multiple_of(unit) && end <= places.record(1, slot + 1));
                    assert!(end <= 2 * places.sector, "{places:?}");
                }
            }
        }
    }

    #[test]
    fn sizes_that_can_not_be_are_refused() {
        for (size, page, unit, numbers) in [
            (1024, 128, 0, 4),
            (1024, 128, 65, 4),
            (1024, 0, 1, 4),
            (1024, 130, 4, 4),
            (1024, 128, 4, 0),
            (1024, 128, 4, usize::MAX),
            (1000, 128, 4, 4),
            (128, 128, 4, 4),
            (0, 128, 4, 4),
            (1024, 128, 4, 512),
            (usize::MAX - 63, usize::MAX - 63, 64, 1),
        ] {
            assert!(Places::new(size, page, unit, numbers).is_err(), "{size} {page} {unit} {numbers}");
        }
        assert!(Places::flash_bytes(512, usize::MAX, 2048, 8).is_err());
        assert!(Places::flash_bytes(1, 1, usize::MAX - 63, 64).is_err());
        // A flash that is too small for well used sectors is used as well as can be.
        let places = Places::new(8 * 1024, 2048, 8, 512).expect("places");
        assert_eq!((places.sectors, places.slots), (2, 1));
    }
}
