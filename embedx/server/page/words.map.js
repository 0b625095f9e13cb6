/* The texts of the screen Map: key | English | German. */

export const WORDS = `
map.method | Map by | Karte nach
map.colour | Colour | Farbe
map.legend | Values in view | Werte im Bild
map.legend.tip | Click hides, double click shows this one only | Klick blendet aus, Doppelklick zeigt nur diesen
map.selection | Selection | Auswahl
map.hover | play what I point at | abspielen, worauf ich zeige
map.hover.tip | After a quarter of a second on a point | Nach einer Viertelsekunde auf einem Punkt
map.in | Zoom in | Vergrößern
map.out | Zoom out | Verkleinern
map.all | All | Alles
map.head | class by {head} | Klasse nach {head}
map.proba | probability by {head} | Wahrscheinlichkeit nach {head}
map.flags | flags | Merkmale
map.score | score of the question | Ähnlichkeit zur Frage
map.making | The map is made, once. All else works meanwhile. | Die Karte wird einmalig berechnet. Alles andere geht inzwischen.
map.failed | This map could not be made; the other one is still here. | Diese Karte ließ sich nicht berechnen; die andere ist noch da.
map.pca | The two main components show {share} % of the differences. | Die beiden Hauptkomponenten zeigen {share} % der Unterschiede.
map.umap | Neighbours are near each other; distances between islands mean little. | Nachbarn liegen beieinander; Abstände zwischen Inseln sagen wenig.
map.part | {n} of {all} rows in view | {n} von {all} Zeilen im Bild
map.sample | A fair sample of {n} of {all} rows; zooming in shows the others | Eine faire Stichprobe von {n} aus {all} Zeilen; Vergrößern zeigt die anderen
map.canvas | Map of the rows. Arrows move a cross, Enter opens, space plays, plus and minus zoom, Shift and arrows draw a rectangle. | Karte der Zeilen. Pfeile bewegen ein Kreuz, Enter öffnet, Leertaste spielt, Plus und Minus zoomen, Umschalt und Pfeile ziehen ein Rechteck auf.
map.other | other | andere
map.shown | {name} is shown | {name} wird gezeigt
map.hidden | {name} is hidden | {name} ist ausgeblendet
map.select | select | auswählen
map.lasso | Lasso | Lasso
map.lasso.tip | Draw around points (also with Shift); Alt takes them away | Punkte umfahren (auch mit Umschalt); Alt nimmt sie weg
map.selected | {n, plural: 1 row, # rows} selected | {n, plural: 1 Zeile, # Zeilen} ausgewählt
map.label | label them | Label geben
map.label.many | At most {n} rows get a label at once. | Höchstens {n} Zeilen bekommen auf einmal ein Label.
map.find | Show in Find | In Finden zeigen
map.find.many | At most {n} rows: label them, then filter by it | Höchstens {n} Zeilen: erst labeln, dann danach filtern
map.clear | Clear | Aufheben
`;
