//! The official option of taking a mosaic's other tiles from the images before it (deim-facts 3.3).
//!
//! Officially every worker process has a cache, which its own images go through as they come, so
//! that a mosaic depends on how many workers there are and on what each did before. Here an epoch has
//! one cache. What it holds at an image follows from the epoch's order and draws alone: [`History`]
//! replays it before the first mosaic, so that a sample stays a function of seed, epoch and index,
//! however many workers ask and wherever a run was interrupted. As officially it is empty when an
//! epoch begins, only images that become mosaics go in, and an image may meet itself.
//!
//! Keeping the resized tiles, which is what the official cache is for, is a matter of speed here:
//! a tile that is not kept is made again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use deim_spec::config::{Augment, CachePop};

use crate::draws::Draws;
use crate::error::DataError;
use crate::sample::Sample;

/// What the cache of one epoch gives to each mosaic.
#[derive(Debug, PartialEq)]
pub struct History {
    /// The other tiles of the mosaic of each image; for an image that becomes none, itself.
    others: Vec<[usize; 3]>,
    /// When each image is first and last in a mosaic, as places in the epoch's order.
    places: Vec<[usize; 2]>,
}

impl History {
    /// Goes through an epoch: `mosaic` says which images become mosaics, `draws` what an image draws.
    pub fn replay(
        augment: &Augment,
        order: &[usize],
        mosaic: impl Fn(usize) -> bool,
        draws: impl Fn(u64) -> Draws,
    ) -> Self {
        let mut others: Vec<[usize; 3]> = (0..order.len()).map(|index| [index; 3]).collect();
        let mut places = vec![[0, 0]; order.len()];
        let mut cache = Vec::with_capacity(augment.mosaic_cache + 1);
        for (place, &index) in order.iter().enumerate() {
            places[index] = [place; 2];
            if !mosaic(index) {
                continue;
            }
            let mut draws = draws(index as u64);
            cache.push(index);
            if cache.len() > augment.mosaic_cache {
                cache.remove(match augment.mosaic_cache_pop {
                    CachePop::Random => draws.below(cache.len() - 1),
                    CachePop::Oldest => 0,
                });
            }
            others[index] = std::array::from_fn(|_| cache[draws.below(cache.len())]);
            for other in others[index] {
                places[other][1] = place;
            }
        }
        Self { others, places }
    }

    /// The other tiles of the mosaic of the image at `index`.
    pub fn others(&self, index: usize) -> [usize; 3] {
        self.others[index]
    }
}

/// The history of the current epoch, and the tiles that mosaics to come will need.
#[derive(Debug, Default)]
pub struct MosaicCache {
    history: Mutex<Option<(u32, Arc<History>)>>,
    tiles: Mutex<BTreeMap<usize, Arc<Sample>>>,
}

impl MosaicCache {
    /// The history of an epoch, replayed if it is not the one at hand.
    pub fn history(&self, epoch: u32, replay: impl FnOnce() -> History) -> Arc<History> {
        let mut slot = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some((known, history)) if *known == epoch => Arc::clone(history),
            _ => {
                // A tile is the same in every epoch, but not for how long it is needed.
                self.tiles.lock().unwrap_or_else(PoisonError::into_inner).clear();
                let history = Arc::new(replay());
                *slot = Some((epoch, Arc::clone(&history)));
                history
            }
        }
    }

    /// The tile of the image at `index` for the mosaic of the image at `now`, made if it is not kept.
    pub fn tile(
        &self,
        history: &History,
        now: usize,
        index: usize,
        make: impl FnOnce(usize) -> Result<Arc<Sample>, DataError>,
    ) -> Result<Arc<Sample>, DataError> {
        let tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tile) = tiles.get(&index) {
            return Ok(Arc::clone(tile));
        }
        drop(tiles);
        let tile = make(index)?;
        self.keep(history, now, index, &tile);
        Ok(tile)
    }

    /// Keeps a tile if a later mosaic than that of the image at `now` needs it, and drops those that
    /// neither this one nor a later one needs.
    pub fn keep(&self, history: &History, now: usize, index: usize, tile: &Arc<Sample>) {
        let place = history.places[now][0];
        let last = |index: &usize| history.places[*index][1];
        let mut tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        tiles.retain(|index, _| last(index) >= place);
        if last(&index) > place {
            tiles.insert(index, Arc::clone(tile));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(augment: &Augment, order: &[usize]) -> History {
        let draws = |index| Draws::new(1, "mosaic-cache", &[0, index]);
        History::replay(augment, order, |index| index % 3 != 0, draws)
    }

    #[test]
    fn a_mosaic_is_made_of_mosaics_that_came_before_it_or_of_itself() {
        let augment = Augment { mosaic_cache: 5, ..Augment::default() };
        let order = Draws::new(4, "order", &[0]).permutation(300);
        let history = replay(&augment, &order);
        let mut place = vec![0; 300];
        order.iter().enumerate().for_each(|(at, &index)| place[index] = at);
        let first = order.iter().find(|&&index| index % 3 != 0).copied().unwrap();
        assert_eq!(history.others(first), [first; 3], "the cache begins empty");
        for &index in order.iter().filter(|&&index| index % 3 != 0) {
            for other in history.others(index) {
                assert!(other % 3 != 0 && place[other] <= place[index], "{other} in {index}");
                assert!(history.places[other][1] >= place[index]);
            }
        }
    }

    #[test]
    fn the_oldest_leaves_first_or_any_but_the_newest() {
        let order: Vec<usize> = (0..600).collect();
        let age = |pop| {
            let augment = Augment { mosaic_cache: 4, mosaic_cache_pop: pop, ..Augment::default() };
            let history = replay(&augment, &order);
            let mosaics: Vec<usize> = order.iter().copied().filter(|i| i % 3 != 0).collect();
            let rank = |index| mosaics.iter().position(|&other| other == index).unwrap();
            let ages = mosaics
                .iter()
                .flat_map(|&index| history.others(index).map(|other| rank(index) - rank(other)));
            ages.max().unwrap()
        };
        assert_eq!(age(CachePop::Oldest), 3);
        assert!(age(CachePop::Random) > 8);
    }

    #[test]
    fn only_tiles_that_are_needed_later_are_kept() {
        let augment = Augment { mosaic_cache: 4, ..Augment::default() };
        let order: Vec<usize> = (0..200).collect();
        let history = replay(&augment, &order);
        let cache = MosaicCache::default();
        let tile = Arc::new(crate::transforms::tests_support::sample_of(1, 1));
        for now in order.into_iter().filter(|index| index % 3 != 0) {
            cache.keep(&history, now, now, &tile);
            for other in history.others(now).into_iter().filter(|&other| other != now) {
                let again = |other| panic!("the tile of {other} was not kept for {now}");
                cache.tile(&history, now, other, again).unwrap();
            }
            assert!(cache.tiles.lock().unwrap().len() <= augment.mosaic_cache + 3);
        }
    }
}
