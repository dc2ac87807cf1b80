# The C form has the types of the reference: whoever asks for the one may be given the other.
from appliance.kernel.routecolumns import fill as fill
from appliance.kernel.routecolumns import gather as gather
