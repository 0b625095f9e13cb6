/* The texts of conflicts: [English, German]. */

export const WORDS = {
  "label.conflict": ["{n, plural: 1 row was labelled, # rows were labelled} by somebody else: {value}.", "{n, plural: 1 Zeile hat, # Zeilen haben} schon ein Label von jemand anderem: {value}."],
  "conflict": ["was labelled {theirs} by {by}; you chose {mine}.", "hat von {by} das Label {theirs} bekommen; Sie haben {mine} gewählt."],
  "conflict.keep": ["Keep theirs", "So lassen"],
  "conflict.take": ["Take mine", "Meines nehmen"],
  "conflicts": ["Labels of others", "Labels von anderen"],
};
