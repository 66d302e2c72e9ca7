//! Which tokens became queries, ours and the official ones: rows are compared token by token.

use burn::tensor::{Int, Tensor, TensorData};
use deim_model::outputs::Outputs;

use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};

/// For every stored row the row of ours that stands for the same token.
#[derive(Debug, Default)]
pub struct Selection {
    /// By image and stored row; none where another token of the same score took the last place.
    ours: Vec<Vec<Option<usize>>>,
}

/// How far selected tokens may be off.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of each place's score.
    pub score: Tolerance,
    /// Tokens may change places whose scores differ by no more than this.
    pub gap: f64,
}

impl Selection {
    /// Compares `<prefix>enc_topk_scores` place by place and `<prefix>enc_topk_indices`, of which those
    /// with near-equal scores may have changed places.
    pub fn compare(
        case: &Case,
        prefix: &str,
        outputs: &Outputs,
        bounds: Bounds,
        check: &mut Check,
    ) -> Result<Self, CaseError> {
        let [batch, queries, _] = outputs.encoder.logits.dims();
        let name = format!("{prefix}enc_topk_scores");
        let expected = &case.shaped(&name, &[batch, queries])?.values;
        let best = outputs.encoder.logits.clone().detach().max_dim(2);
        let scores: Vec<f64> = best.into_data().iter::<f64>().collect();
        check.values(&name, &scores, expected, bounds.score)?;

        let name = format!("{prefix}enc_topk_indices");
        case.shaped(&name, &[batch, queries])?;
        let stored = case.indices(&name)?;
        let tokens = outputs.tokens.clone();
        let tokens = tokens.ok_or_else(|| CaseError::new("the detector hides its tokens"))?;
        let tokens: Vec<usize> =
            tokens.into_data().iter::<i64>().map(|token| token as usize).collect();
        let mut ours = Vec::with_capacity(batch);
        for image in 0..batch {
            let rows = image * queries..(image + 1) * queries;
            let (stored, tokens) = (&stored[rows.clone()], &tokens[rows.clone()]);
            let expected = &expected[rows];
            let places = places(stored, tokens, expected, bounds.gap);
            let wrong = places.as_ref().err().copied();
            let found = wrong.map(|row| (row, tokens[row]));
            check.same(&name, &found, &wrong.map(|row| (row, stored[row])));
            // One wrong choice is enough: what follows could not be compared.
            ours.push(places.map_err(|row| {
                let (found, expected) = (tokens[row], stored[row]);
                CaseError::new(format!("{name}[{row}]: token {found}, expected {expected}"))
            })?);
        }
        Ok(Self { ours })
    }

    /// Our rows `[batch, queries, width]` in the order of the stored ones; of any other number of rows,
    /// as they are.
    pub fn in_stored_order(&self, ours: Tensor<3>) -> Tensor<3> {
        let [batch, queries, width] = ours.dims();
        let in_order = |rows: &Vec<Option<usize>>| {
            rows.iter().enumerate().all(|(stored, &ours)| ours.is_none_or(|ours| ours == stored))
        };
        let of_queries = |rows: &Vec<Option<usize>>| rows.len() == queries;
        let fits = batch == self.ours.len() && self.ours.iter().all(of_queries);
        if !fits || self.ours.iter().all(in_order) {
            return ours;
        }
        let rows = self.ours.iter().enumerate().flat_map(|(image, rows)| {
            let row = move |stored| image * queries + self.row(image, stored);
            (0..rows.len()).map(row)
        });
        let rows: Vec<i64> = rows.map(|row| row as i64).collect();
        let rows =
            Tensor::<1, Int>::from_data(TensorData::new(rows, [batch * queries]), &ours.device());
        ours.reshape([batch * queries, width]).select(0, rows).reshape([batch, queries, width])
    }

    /// Our row of a stored row; the same where another token took its place.
    pub fn row(&self, image: usize, stored: usize) -> usize {
        let ours = self.ours.get(image).and_then(|rows| rows.get(stored).copied().flatten());
        ours.unwrap_or(stored)
    }

    /// Compares `[batch, queries, width]` values row by row.
    pub fn rows(
        &self,
        case: &Case,
        name: &str,
        ours: &[f32],
        tolerance: Tolerance,
        check: &mut Check,
    ) -> Result<(), CaseError> {
        let array = case.array(name)?;
        let &[batch, queries, width] = array.shape.as_slice() else {
            return Err(CaseError::new(format!("{name} has not three axes")));
        };
        let fits = batch == self.ours.len() && self.ours.iter().all(|rows| rows.len() == queries);
        if !fits || ours.len() != array.values.len() {
            return Err(CaseError::new(format!("{name}: our values have another shape")));
        }
        for (image, rows) in self.ours.iter().enumerate() {
            for (stored, &row) in rows.iter().enumerate() {
                let Some(row) = row else { continue };
                let at = |row: usize| (image * queries + row) * width;
                let values: Vec<f64> =
                    ours[at(row)..][..width].iter().map(|&value| f64::from(value)).collect();
                check.values(name, &values, &array.values[at(stored)..][..width], tolerance)?;
            }
        }
        Ok(())
    }
}

/// Our row of every stored token, or the first row whose token has no business there.
fn places(
    stored: &[usize],
    ours: &[usize],
    scores: &[f64],
    gap: f64,
) -> Result<Vec<Option<usize>>, usize> {
    let last = scores.last().copied().unwrap_or(0.0);
    let mut places = vec![None; stored.len()];
    for (row, token) in ours.iter().enumerate() {
        if stored[row] == *token {
            places[row] = Some(row);
            continue;
        }
        match stored.iter().position(|stored| stored == token) {
            Some(place) if (scores[place] - scores[row]).abs() <= gap => places[place] = Some(row),
            None if scores[row] - last <= gap => {}
            _ => return Err(row),
        }
    }
    // A stored token that we did not choose must have been at the edge, too.
    let missing = (0..stored.len()).find(|&row| places[row].is_none() && scores[row] - last > gap);
    missing.map_or(Ok(places), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_equal_scores_may_change_places_and_others_may_not() {
        let scores = [0.9, 0.50002, 0.5, 0.3, 0.1];
        let stored = [7, 3, 5, 1, 2];
        let of = |ours: &[usize]| places(&stored, ours, &scores, 1e-4);
        assert_eq!(of(&[7, 3, 5, 1, 2]), Ok((0..5).map(Some).collect()));
        assert_eq!(of(&[7, 5, 3, 1, 2]), Ok(vec![Some(0), Some(2), Some(1), Some(3), Some(4)]));
        // The last place may go to a token that is not stored at all.
        assert_eq!(of(&[7, 3, 5, 1, 9]), Ok(vec![Some(0), Some(1), Some(2), Some(3), None]));
        assert_eq!(of(&[3, 7, 5, 1, 2]), Err(0));
        assert_eq!(of(&[7, 3, 9, 1, 2]), Err(2));
    }

    #[test]
    fn only_rows_of_queries_are_put_in_order() {
        let selection = Selection { ours: vec![vec![Some(1), Some(0), None]] };
        let sorted = |rows: usize| -> Vec<f32> {
            let ours = Tensor::<1, Int>::arange(0..rows as i64, &Default::default()).float();
            selection.in_stored_order(ours.reshape([1, rows, 1])).into_data().iter().collect()
        };
        assert_eq!(sorted(3), [1.0, 0.0, 2.0]);
        assert_eq!(sorted(4), [0.0, 1.0, 2.0, 3.0]);
    }
}
