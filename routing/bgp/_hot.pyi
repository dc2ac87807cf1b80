# The C form has the types of the reference: whoever asks for the one may be given the other.
from routing.bgp.encode import announce as announce
from routing.bgp.encode import withdraw as withdraw
from routing.bgp.nlri import PrefixFilter as PrefixFilter
from routing.bgp.nlri import count as count
from routing.bgp.nlri import cut as cut
from routing.bgp.nlri import normal as normal
from routing.bgp.scan import lift as lift
from routing.bgp.scan import scan as scan
from routing.bgp.scan import split as split
from routing.bgp.table import PrefixTable as PrefixTable
from routing.bgp.weigh import weigh as weigh
