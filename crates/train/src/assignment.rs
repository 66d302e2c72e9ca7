//! The rectangular linear sum assignment: which row takes which column at the least total cost.
//!
//! Shortest augmenting paths (Jonker and Volgenant; the rectangular form is Crouse's, 2016). Among
//! assignments of equal cost the choice is the one of `scipy.optimize.linear_sum_assignment`, which
//! the official matcher calls: columns are scanned from last to first and an unassigned column
//! wins a tie.

/// Solves assignment problems and keeps its working memory between them.
#[derive(Debug, Default)]
pub struct Assigner {
    /// Costs with the shorter side as rows.
    costs: Vec<f64>,
    row_price: Vec<f64>,
    column_price: Vec<f64>,
    /// Cost of the shortest path found to each column.
    distance: Vec<f64>,
    /// The row from which that path reaches the column.
    previous: Vec<usize>,
    column_of: Vec<usize>,
    row_of: Vec<usize>,
    row_seen: Vec<bool>,
    column_seen: Vec<bool>,
    open: Vec<usize>,
}

const NONE: usize = usize::MAX;

impl Assigner {
    /// Pairs of row and column, sorted by row, `min(rows, columns)` of them.
    ///
    /// `costs` is row-major and must be finite; the caller replaces what is not (deim-facts 3.10).
    pub fn solve(&mut self, costs: &[f32], rows: usize, columns: usize) -> Vec<(usize, usize)> {
        assert_eq!(costs.len(), rows * columns, "a cost for each row and column");
        debug_assert!(costs.iter().all(|cost| cost.is_finite()));
        let transposed = columns < rows;
        let (short, long) = if transposed { (columns, rows) } else { (rows, columns) };
        self.costs.clear();
        if transposed {
            let entries = (0..columns).flat_map(|column| {
                (0..rows).map(move |row| f64::from(costs[row * columns + column]))
            });
            self.costs.extend(entries);
        } else {
            self.costs.extend(costs.iter().copied().map(f64::from));
        }

        reset(&mut self.row_price, short, 0.0);
        reset(&mut self.column_price, long, 0.0);
        reset(&mut self.column_of, short, NONE);
        reset(&mut self.row_of, long, NONE);
        for row in 0..short {
            let (end, length) = self.shortest_path(row, long);
            self.raise_prices(row, length);
            self.augment(row, end);
        }

        if transposed {
            let taken = self.row_of.iter().enumerate().filter(|&(_, &column)| column != NONE);
            taken.map(|(row, &column)| (row, column)).collect()
        } else {
            self.column_of.iter().copied().enumerate().collect()
        }
    }

    /// The cheapest alternating path from `start` to a free column: that column and its cost.
    fn shortest_path(&mut self, start: usize, columns: usize) -> (usize, f64) {
        reset(&mut self.distance, columns, f64::INFINITY);
        reset(&mut self.previous, columns, NONE);
        reset(&mut self.row_seen, self.column_of.len(), false);
        reset(&mut self.column_seen, columns, false);
        self.open.clear();
        self.open.extend((0..columns).rev());

        let mut row = start;
        let mut length = 0.0;
        loop {
            self.row_seen[row] = true;
            let costs = &self.costs[row * columns..(row + 1) * columns];
            let (mut nearest, mut lowest) = (0, f64::INFINITY);
            for (place, &column) in self.open.iter().enumerate() {
                let reached =
                    length + costs[column] - self.row_price[row] - self.column_price[column];
                if reached < self.distance[column] {
                    self.distance[column] = reached;
                    self.previous[column] = row;
                }
                let distance = self.distance[column];
                if distance < lowest || (distance == lowest && self.row_of[column] == NONE) {
                    (nearest, lowest) = (place, distance);
                }
            }
            length = lowest;
            let column = self.open.swap_remove(nearest);
            self.column_seen[column] = true;
            match self.row_of[column] {
                NONE => return (column, length),
                owner => row = owner,
            }
        }
    }

    /// Keeps every reduced cost non-negative and those on the path zero.
    fn raise_prices(&mut self, start: usize, length: f64) {
        self.row_price[start] += length;
        for row in 0..self.column_of.len() {
            if self.row_seen[row] && row != start {
                self.row_price[row] += length - self.distance[self.column_of[row]];
            }
        }
        for column in 0..self.row_of.len() {
            if self.column_seen[column] {
                self.column_price[column] -= length - self.distance[column];
            }
        }
    }

    /// Shifts every row on the path to its next column.
    fn augment(&mut self, start: usize, end: usize) {
        let mut column = end;
        loop {
            let row = self.previous[column];
            self.row_of[column] = row;
            std::mem::swap(&mut self.column_of[row], &mut column);
            if row == start {
                return;
            }
        }
    }
}

fn reset<T: Clone>(values: &mut Vec<T>, length: usize, value: T) {
    values.clear();
    values.resize(length, value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The least total over all ways to give each row (or each column) its own partner.
    fn brute_force(costs: &[f32], rows: usize, columns: usize) -> f64 {
        fn go(
            costs: &dyn Fn(usize, usize) -> f64,
            short: usize,
            long: usize,
            used: u32,
            row: usize,
        ) -> f64 {
            if row == short {
                return 0.0;
            }
            (0..long)
                .filter(|column| used & (1 << column) == 0)
                .map(|column| {
                    costs(row, column) + go(costs, short, long, used | (1 << column), row + 1)
                })
                .fold(f64::INFINITY, f64::min)
        }
        let at = |row: usize, column: usize| f64::from(costs[row * columns + column]);
        if rows <= columns {
            go(&at, rows, columns, 0, 0)
        } else {
            go(&|short, long| at(long, short), columns, rows, 0, 0)
        }
    }

    proptest! {
        #[test]
        fn no_other_assignment_is_cheaper(
            rows in 0_usize..6,
            columns in 0_usize..6,
            // Few distinct values, so that ties are common.
            values in prop::collection::vec(-4_i8..5, 36),
        ) {
            let costs: Vec<f32> =
                values[..rows * columns].iter().map(|&v| f32::from(v) * 0.5).collect();
            let mut assigner = Assigner::default();
            let pairs = assigner.solve(&costs, rows, columns);
            prop_assert_eq!(pairs.len(), rows.min(columns));
            prop_assert!(pairs.windows(2).all(|two| two[0].0 < two[1].0), "sorted by row");
            let mut taken: Vec<usize> = pairs.iter().map(|pair| pair.1).collect();
            taken.sort_unstable();
            taken.dedup();
            prop_assert_eq!(taken.len(), pairs.len(), "each column once");
            let total: f64 =
                pairs.iter().map(|&(row, column)| f64::from(costs[row * columns + column])).sum();
            prop_assert_eq!(total, brute_force(&costs, rows, columns));
            prop_assert_eq!(assigner.solve(&costs, rows, columns), pairs, "scratch is clean");
        }
    }

    #[test]
    fn equal_costs_give_the_identity_as_scipy_does() {
        for (rows, columns) in [(3, 3), (3, 7), (7, 3)] {
            let pairs = Assigner::default().solve(&vec![1.0; rows * columns], rows, columns);
            assert_eq!(pairs, (0..rows.min(columns)).map(|i| (i, i)).collect::<Vec<_>>());
        }
    }
}
