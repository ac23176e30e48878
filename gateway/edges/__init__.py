"""One file per outside system: the services behind, REST, the page, who may come in."""
