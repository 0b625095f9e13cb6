/* The texts of the screen Label: key | English | German. */

export const WORDS = `
queue | Suggested by | Vorschläge:
by.margin | where the head is undecided | wo der Kopf unentschieden ist
by.diverse | unlike all that is labelled | anders als alles mit Label
by.band | a band of probability | ein Band der Wahrscheinlichkeit
by.random | at random | zufällig
by.hits | the hits of Find | die Treffer von Finden
by.selection | the selection of the map | die Auswahl der Karte
by.between | Probability from | Wahrscheinlichkeit von
by.class | Of which label | Von welchem Label
by.any | of the likeliest label | des wahrscheinlichsten Labels
place | {n} of {all} | {n} von {all}
labelled | {n} labelled | {n} mit Label
passed | {n, plural: 1 was labelled, # were labelled} by others | {n, plural: 1 hat, # haben} ein Label von anderen
blind | judge without help | ohne Hilfe urteilen
blind.tip | The guess of the head is hidden: seeing it influences the judgement. | Die Vermutung des Kopfes bleibt verborgen: sie beeinflusst das Urteil.
names | Names | Namen
retrain | Retrain | Neu trainieren
pass | skip | überspringen
undo | undo | zurücknehmen
unsure | not sure | unsicher
yes | yes | ja
no | no | nein
clip | The sound to label | Der Ton für das Label
thinks | The head thinks: | Der Kopf vermutet:
said | {label}. {n} of {all}. | {label}. {n} von {all}.
strip | The queue | Die Warteschlange
strip.row | Sound {n}: {label} | Ton {n}: {label}
loading.queue | Choosing what to label next ... | Die nächsten Töne werden ausgesucht ...
end.queue | All suggested sounds are done. | Alle vorgeschlagenen Töne sind fertig.
end.all | No row without a label is left to suggest. | Es ist keine Zeile ohne Label mehr vorzuschlagen.
end.more | Suggest more | Mehr vorschlagen
task | What do you want to label? | Was möchten Sie labeln?
task.which | Which one is it? Up to nine names, one for each digit | Was ist es? Bis zu neun Namen, einer je Ziffer
task.yesno | Is it there? One question, with yes (1) or no (2) | Ist es da? Eine Frage, mit ja (1) oder nein (2)
task.name | Name {n} | Name {n}
task.take | take the {n} values of {column} | die {n} Werte von {column} nehmen
task.is | Is it there: | Ist das da:
task.column | Name of the sound, and of the column for the answers | Name des Tons und der Spalte für die Antworten
task.question | {column}? | {column}?
task.start | Start | Anfangen
task.empty | Give at least one name. | Bitte mindestens einen Namen angeben.
task.taken | {column} holds other values already. Choose another name. | {column} enthält schon andere Werte. Bitte einen anderen Namen wählen.
training | The head is being trained ... | Der Kopf wird trainiert ...
trained.none | The head is trained; it has too few rows for figures | Der Kopf ist trainiert; für Werte hat er zu wenige Zeilen
trained.first | balanced accuracy {value} ({low} to {high}) | balancierte Genauigkeit {value} ({low} bis {high})
trained.again | balanced accuracy {before} to {value} (difference {low} to {high}) | balancierte Genauigkeit {before}, jetzt {value} (Unterschied {low} bis {high})
trained.interval | now {low} to {high} | Bereich {low} bis {high}
trained.flipped | {n, plural: 1 row, # rows} changed | {n, plural: 1 Zeile, # Zeilen} geändert
flipped | Rows whose prediction has changed | Zeilen, deren Vorhersage sich geändert hat
flipped.more | and {n, plural: 1 other row, # other rows} | und {n, plural: 1 weitere Zeile, # weitere Zeilen}
`;
