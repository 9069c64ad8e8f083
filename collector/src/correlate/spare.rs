//! Boxes that nobody needs any more, for later ones.

/// Some of them. What is in them stays until they are used again.
#[derive(Debug)]
pub(super) struct Spare<T>(Vec<Box<T>>);

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Spare<T> {
    /// How many are kept.
    const MOST: usize = 1_024;

    /// A box with `value` in it.
    pub(super) fn boxed(&mut self, value: T) -> Box<T> {
        match self.0.pop() {
            Some(mut spare) => {
                *spare = value;
                spare
            }
            None => Box::new(value),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn keep(&mut self, spare: Box<T>) {
        if self.0.len() < Self::MOST {
            self.0.push(spare);
        }
    }
}
