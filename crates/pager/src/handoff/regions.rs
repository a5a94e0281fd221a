//! Where the memory of the guest is in the monitor.

use std::ops::Range;

use serde::Deserialize;

use crate::{Error, PAGE, Result};

/// A monitor has a few, around holes in the addresses of the guest.
const MOST: usize = 64;
/// Addresses of processes are below, with five levels of page tables.
const LAST_ADDRESS: u64 = 1 << 57;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// In the monitor.
    pub address: u64,
    /// Of the guest's memory, as the header counts them.
    pub first: u32,
    pub pages: u32,
}

impl Region {
    pub fn pages(&self) -> Range<u32> {
        self.first..self.first + self.pages
    }

    /// @param page one of the region
    pub fn address_of(&self, page: u32) -> u64 {
        self.address + u64::from(page - self.first) * PAGE as u64
    }

    fn addresses(&self) -> Range<u64> {
        self.address..self.address + u64::from(self.pages) * PAGE as u64
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Regions(Vec<Region>);

#[derive(Deserialize)]
struct Given {
    base_host_virt_addr: u64,
    size: u64,
    offset: u64,
    page_size: Option<u64>,
    /// The name that Firecracker's first versions gave to `page_size`, in bytes as well.
    page_size_kib: Option<u64>,
}

impl Regions {
    /// Nothing while more bytes are to come.
    ///
    /// # Errors
    /// For all that is no array of regions of a memory of so many pages.
    pub fn parse(bytes: &[u8], pages: u32) -> Result<Option<Self>> {
        match serde_json::from_slice::<Vec<Given>>(bytes) {
            Ok(given) => Self::check(&given, pages).map(Some),
            Err(error) if error.is_eof() => Ok(None),
            Err(error) => Err(Error(format!(
                "the hand-off is no list of regions: {:.200}",
                error.to_string()
            ))),
        }
    }

    fn check(given: &[Given], pages: u32) -> Result<Self> {
        if given.is_empty() || given.len() > MOST {
            return Err(Error(format!("the hand-off has {} regions, of 1 to {MOST}", given.len())));
        }
        let mut regions =
            given.iter().map(|given| region(given, pages)).collect::<Result<Vec<_>>>()?;
        regions.sort_by_key(|region| region.first);
        if regions.windows(2).any(|two| two[0].pages().end > two[1].first) {
            return Err(Error::new("the hand-off has regions of the same memory"));
        }
        regions.sort_by_key(|region| region.address);
        if regions.windows(2).any(|two| two[0].addresses().end > two[1].address) {
            return Err(Error::new("the hand-off has regions at the same addresses"));
        }
        Ok(Self(regions))
    }

    /// The region and the page that an address is in.
    pub fn at(&self, address: u64) -> Option<(Region, u32)> {
        let index = self.0.partition_point(|region| region.address <= address).checked_sub(1)?;
        let region = self.0[index];
        let page = (address - region.address) / PAGE as u64;
        (page < region.pages.into()).then(|| (region, region.first + page as u32))
    }

    /// The region that a page is in.
    pub fn of(&self, page: u32) -> Option<Region> {
        self.0.iter().copied().find(|region| region.pages().contains(&page))
    }

    /// Pages whose addresses begin in the range, region by region.
    pub fn pages_in(&self, addresses: Range<u64>) -> impl Iterator<Item = Range<u32>> {
        self.0.iter().filter_map(move |region| {
            let own = region.addresses();
            let (start, end) = (addresses.start.max(own.start), addresses.end.min(own.end));
            let page =
                |address: u64| region.first + (address - own.start).div_ceil(PAGE as u64) as u32;
            (start < end).then(|| page(start)..page(end))
        })
    }
}

fn region(given: &Given, pages: u32) -> Result<Region> {
    let page = PAGE as u64;
    let Given { base_host_virt_addr: address, size, offset, .. } = *given;
    if given.page_size.or(given.page_size_kib) != Some(page) {
        return Err(Error(format!("the hand-off has a region without pages of {PAGE} bytes")));
    }
    let is_whole = [address, size, offset].iter().all(|bytes| bytes % page == 0);
    let ends = (address.checked_add(size), offset.checked_add(size));
    match ends {
        (Some(last), Some(end))
            if is_whole && size > 0 && last <= LAST_ADDRESS && end <= u64::from(pages) * page =>
        {
            Ok(Region { address, first: (offset / page) as u32, pages: (size / page) as u32 })
        }
        _ => Err(Error(format!(
            "the hand-off has a region of {size} bytes at {address:#x}, {offset} of the memory"
        ))),
    }
}
