"""The session interfaces of agent frameworks, over the managers of this package: one module for each framework.

A conversation that a framework stores is an ordinary session: any other framework can continue it, and it is listed,
searched, exported and given to a model like all others.

Each adapter converts a framework's items into messages, and back. Texts, tool calls, results and images are in a
message's own fields. What only that framework knows is stored in the message's metadata under the framework's name, as
a difference (`differences`) to the item that the own fields give: nothing is stored twice, and every item comes back
equal. A message without that difference, written by hand or under another framework, is converted from its own fields.
"""
