"""A table as mini-MIAS has it, with each kind of row."""

TABLE = """Some text that mentions a film.
=====
mdb001 G CIRC B 535 425 197
mdb002 D NORM\x20
mdb003 F SPIC M 100 1000 30
mdb003 F MISC B 600 300 20
mdb004 F CIRC B
mdb005 D CALC M *NOTE 3*\x20
mdb006 F CALC M *NOTE 3*
mdb006 F CALC M 100 100 10
mdb211 G CALC M 680 327 13
mdb212 G CALC B 687 882 3
mdb213 G NORM
mdb214 G CALC B 582 916 11
=====
"""
