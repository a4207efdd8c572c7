#!/usr/bin/env python3
"""Text of a small invented game world: what the demo model was trained on.

The world is fixed: 40 people, 16 places, 40 items, 12 quests, 10 shops and 10
creatures, with facts drawn once from WORLD_SEED. Those facts appear in many
phrasings, so that a model can learn them and an answer can be right or wrong.
Around them stand freely combined scenes, letters, ledgers and small talk, so that
language modelling stays hard.

    python3 generate.py --seed 1 --mb 60 --kind mix   > train.txt
    python3 generate.py --seed 2 --mb 0.15 --kind prose > heldout.txt
    python3 generate.py --seed 3 --mb 0.17 --kind mix > calib.txt
    python3 generate.py --suite > suite.jsonl

Paragraphs are separated by a blank line. `prose` has no special tokens; `chat` is
dialogues in the chat template; `mix` is both. Pure standard library and an own
random generator: the same bytes for the same arguments on every Python 3.
"""

import argparse
import json
import sys

WORLD_SEED = 20
BOS, USER, ASSISTANT, SYSTEM, END = "<|begin|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"


class Rng:
    """splitmix64; Python's own generator does not promise the same choices in every version."""

    def __init__(self, seed):
        self.state = (seed * 0x9E3779B97F4A7C15 + 0x1234567) & 0xFFFFFFFFFFFFFFFF

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return z ^ (z >> 31)

    def below(self, n):
        return (self.next() >> 11) % n

    def range(self, a, b):
        return a + self.below(b - a + 1)

    def pick(self, seq):
        return seq[self.below(len(seq))]

    def chance(self, percent):
        return self.below(100) < percent

    def shuffled(self, seq):
        out = list(seq)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out

    def some(self, seq, n):
        return self.shuffled(seq)[:n]


def words(text):
    """'a b, c d, e' -> ['a b', 'c d', 'e']"""
    return [w.strip() for w in text.replace("\n", " ").split(",") if w.strip()]


# ---------------------------------------------------------------- the vocabulary of the world

PEOPLE = words("""
Mira f miller, Tobin m blacksmith, Elsa f weaver, Garrick m ferryman, Nell f herbalist,
Orin m cartographer, Sable f thief, Pip m stable boy, Hedda f innkeeper, Jory m fisher,
Wren f falconer, Alric m captain, Thessa f astronomer, Bram m carpenter, Ottilie f seamstress,
Dunstan m gravedigger, Liora f bard, Kester m locksmith, Maud f baker, Ferris m hunter,
Ilse f glassblower, Corbin m tax collector, Zara f potter, Hob m beekeeper, Petra f scribe,
Rolf m mason, Anwen f shepherd, Silas m apothecary, Greta f cook, Lucan m sailor,
Fenna f painter, Barnaby m juggler, Isolde f judge, Marek m clockmaker, Tansy f gardener,
Edric m tinker, Vesna f midwife, Quill m messenger, Rosamund f librarian, Ulf m woodcutter""")

PLACES = words("""
in Oakhollow village Green Vale an old stone well, in Saltmere harbour town Salt Coast a crooked lighthouse,
at Grimwatch fortress North Marches a black gate, in Thornwick hamlet Green Vale a hedge maze, at Ashbridge
crossing Red Hills a bridge of seven arches, in Mossgate market town Green Vale a round market hall, at
Stillwater lake house Green Vale a floating garden, at Highfell abbey North Marches a frozen waterfall, in
Copperfall mining town Red Hills a great water wheel, at Crowhill ruin North Marches a leaning tower, in
Lanternbay fishing village Salt Coast a hundred paper lamps, in Dunmarrow desert town Red Hills a painted
arena, at Frosthold watchtower North Marches a beacon fire, in Emberfield farm village Red Hills a field of
red poppies, at Gullrock island Salt Coast a cave full of bells, in Brinehaven port Salt Coast a whale bone
arch""")

ITEMS = words("""
silver lantern, iron key, glass compass, oak flute, copper bell, velvet cloak, bone dice, amber ring,
marble chess set, leather map, golden needle, crystal bottle, wooden owl, bronze mirror, paper crown,
ivory comb, steel dagger, brass telescope, clay whistle, silk banner, tin soldier, pearl brooch,
jade frog, granite hammer, feather pen, wool blanket, ruby earring, willow basket, pewter cup,
black candle, white shield, blue drum, red saddle, green hourglass, moon harp, storm horn,
sun coin, star chart, thorn whip, river stone""")

POWERS = words("""
glows when danger is near, opens any cellar door, points to lost things, calms angry dogs, wakes sleeping
guards, hides its bearer in fog, never loses a bet, warms cold hands, whispers good advice, shows the
shortest road, mends torn sails, keeps water fresh for years, hoots at liars, shows old memories, makes
children laugh, brings pleasant dreams, cuts through rope like butter, sees through walls, calls the birds,
frightens wolves, marches on its own, shines under water, hops toward gold, breaks any rock, writes without
ink, keeps out the rain, hears distant voices, never gets full, finds poison in wine, burns for a hundred
nights, stops every arrow, shakes the ground, tames wild horses, slows down time, puts giants to sleep,
summons the north wind, buys one honest answer, foretells the weather, drives away ghosts, heals small
wounds""")

CONTAINERS = words("""
in a cedar chest, under the bed, behind a loose brick, in a flour sack, on a high shelf, inside a hollow
log, in a locked drawer, beneath the floorboards, in a pickle jar, on a nail by the door, in an old boot, up
in the attic, under a flat stone, in a bread oven, inside a broken clock, at the bottom of a barrel""")

WISHES = words("""
to see the ocean, to own a white horse, to learn to read, to build a windmill, to find a lost brother, to
win the harvest fair, to sail around the world, to pay off a debt, to cook for the queen, to fly like a
hawk, to write a book of songs, to open a school, to catch the giant pike, to dance at the castle, to sleep
for a whole week, to grow a blue rose, to climb the highest mountain, to meet a dragon, to become a knight,
to buy back the family farm, to discover a new star, to forgive an old rival, to be left in peace, to taste
snow in summer, to speak with animals, to hear the abbey bells again, to make a clock that never stops, to
bake a perfect pie, to find a cure for fever, to cross the desert alone, to paint the sunrise, to train an
eagle, to marry in spring, to keep bees on the roof, to dig up a treasure, to own a ship, to tell the truth
at last, to live in a tree house, to wear a silk dress, to beat the captain at cards""")

HAIR = words("black, red, golden, grey, white, brown, copper, silver")
TRAITS = words("""
patient, greedy, brave, shy, clever, stubborn, cheerful, gloomy, honest, careless, curious, proud, gentle,
suspicious, generous, clumsy, sleepy, boastful, loyal, quiet""")
FEARS = words(
    "spiders, thunder, deep water, the dark, heights, wolves, ghosts, fire, geese, small rooms, snakes, mirrors"
)
PETS = words("""
a three-legged cat, a fat goose, a white ferret, a talking raven, an old hound, a lame donkey, a tame fox, a
grumpy goat, a singing finch, a green snake, a tiny owl, a spotted pig""")

QUESTS = words("""
The Broken Bell|bring back the cracked bell|a swamp hag, The Drowned Crown|fish the crown out of the lake|a
lake serpent, Wolves at the Door|drive the wolves from the fold|a grey wolf pack, The Missing Heir|find the
lost child of the mayor|a masked bandit, Honey and Ash|save the hives from the fire|an ash sprite, The
Silent Tower|light the lamp in the tower|a stone golem, A Debt of Salt|carry the salt to the abbey|a river
troll, The Clockwork Heart|repair the broken machine|a rusty knight, Thirteen Ravens|count the ravens at
midnight|a raven witch, The Paper King|burn the false letter|a forger, The Long Winter|fetch firewood
through the snow|an ice giant, Bones of the Mine|close the haunted tunnel|a cave ghoul""")

SHOPS = words("""
The Gilded Anchor, The Merry Kettle, Needle and Thread, The Copper Pot, The Hungry Goose, Lamp and Quill,
The Rusty Nail, The Blue Door, Barrel and Bow, The Last Candle""")
GOODS = words(
    """
a coil of rope, a loaf of bread, a wheel of cheese, a jar of honey, a wool scarf, a tin lantern, a bundle of
arrows, a healing potion, a sharp knife, a bag of nails, a pair of boots, a warm coat, a bottle of ink, a
roll of parchment, a sack of flour, a smoked ham, a fishing net, a bar of soap, a clay pipe, a wooden
bucket, a box of candles, a silver spoon, a basket of apples, a pot of paint, a feather pillow, a small
mirror, a deck of cards, a spool of thread, a horse blanket, a flask of oil, a bunch of herbs, an iron pan,
a straw hat, a leather belt, a jug of cider, a bag of salt, a brass whistle, a tent, a shovel, a cow bell"""
)

CREATURES = words("""
marsh hag|warm milk|swamp grass, stone golem|running water|gravel, river troll|sunlight|rotten fish, ash
sprite|salt|dry wood, cave ghoul|church bells|old bones, ice giant|loud music|frozen deer, lake
serpent|silver hooks|swans, raven witch|a mirror|shiny buttons, grey wolf|torches|sheep, rusty
knight|vinegar|nothing at all""")


class World:
    """All facts. Lists of dicts; each fact is the same in every text."""

    def __init__(self):
        r = Rng(WORLD_SEED)
        self.places = []
        for i, row in enumerate(PLACES):
            prep, name, rest = row.split(" ", 2)
            region = next(
                g for g in ("Green Vale", "Salt Coast", "North Marches", "Red Hills") if g in rest
            )
            kind, feature = rest.split(" " + region + " ")
            self.places.append(
                dict(
                    name=name,
                    prep=prep,
                    at=prep + " " + name,
                    kind=kind,
                    region="the " + region,
                    feature=feature,
                )
            )
        order = r.shuffled(range(16))
        for k, i in enumerate(order):  # a ring road; "days" is the walk to the next place
            self.places[i]["road"] = self.places[order[(k + 1) % 16]]["name"]
            self.places[i]["days"] = r.range(2, 7)
        homes = r.shuffled(list(range(16)) * 3)[:40]
        owners, wishes, friends = r.shuffled(range(40)), r.shuffled(range(40)), r.shuffled(range(40))
        self.people = []
        for i, row in enumerate(PEOPLE):
            name, sex, job = row.split(" ", 2)
            p = dict(
                name=name,
                job=job,
                wish=WISHES[wishes[i]],
                hair=r.pick(HAIR),
                trait=r.pick(TRAITS),
                fear=r.pick(FEARS),
                pet=r.pick(PETS),
                age=r.range(16, 79),
                place=self.places[homes[i]],
                item=ITEMS[owners[i]],
            )
            p["home"], p["at"] = p["place"]["name"], p["place"]["at"]
            p["he"], p["him"], p["his"] = ("she", "her", "her") if sex == "f" else ("he", "him", "his")
            self.people.append(p)
        for k in range(40):  # one ring of friends: nobody is their own friend
            self.people[friends[k]]["friend"] = self.people[friends[(k + 1) % 40]]["name"]
        powers = r.shuffled(POWERS)
        self.items = [
            dict(
                name=n,
                power=powers[i],
                kept=r.pick(CONTAINERS),
                price=r.range(2, 99) * 5,
                owner=next(p for p in self.people if p["item"] == n),
            )
            for i, n in enumerate(ITEMS)
        ]
        keepers = r.some(self.people, 16)
        for p, k in zip(self.places, keepers):
            p["warden"] = k["name"]
        givers, spots = r.some(self.people, 12), r.some(self.places, 12)
        self.quests = []
        for i, row in enumerate(QUESTS):
            name, task, foe = row.split("|")
            self.quests.append(
                dict(
                    name=name,
                    task=task,
                    foe=foe,
                    giver=givers[i]["name"],
                    at=spots[i]["at"],
                    spot=spots[i]["name"],
                    reward=r.range(4, 60) * 5,
                )
            )
        spots, keepers, goods = r.some(self.places, 10), r.some(self.people, 10), r.shuffled(GOODS)
        self.shops = [
            dict(
                name=n,
                spot=spots[i]["name"],
                at=spots[i]["at"],
                keeper=keepers[i]["name"],
                goods=[(g, r.range(2, 40)) for g in goods[4 * i : 4 * i + 4]],
            )
            for i, n in enumerate(SHOPS)
        ]
        spots = r.some(self.places, 10)
        self.creatures = []
        for i, row in enumerate(CREATURES):
            name, weak, food = row.split("|")
            self.creatures.append(dict(name=name, weak=weak, food=food, lair=spots[i]["name"]))


W = World()


def many(noun):
    special = dict(knife="knives", torch="torches", cheese="cheeses")
    return special.get(noun, noun + "s")


def an(text):
    return ("an " if text[0] in "aeiou" else "a ") + text


def cap(text):
    return text[0].upper() + text[1:]


# ---------------------------------------------------------------- facts: questions, answers, statements


def person_forms(p):
    return dict(p, e=p["name"], ajob=an(p["job"]))


def item_forms(i):
    return dict(
        e=i["name"],
        power=i["power"],
        kept=i["kept"],
        price=i["price"],
        owner=i["owner"]["name"],
        job=i["owner"]["job"],
    )


def place_forms(p):
    return dict(p, e=p["name"], akind=an(p["kind"]))


def plain_forms(x):
    return dict(x, e=x["name"])


PERSON, ITEM, PLACE, QUEST, SHOP, CREATURE = "person", "item", "place", "quest", "shop", "creature"
FORMS = {
    PERSON: [person_forms(p) for p in W.people],
    ITEM: [item_forms(i) for i in W.items],
    PLACE: [place_forms(p) for p in W.places],
    QUEST: [plain_forms(q) for q in W.quests],
    SHOP: [plain_forms(s) for s in W.shops],
    CREATURE: [plain_forms(c) for c in W.creatures],
}

# (kind of entity, key of the answer, questions, answers, statements); {e} is the name of the entity.
# fmt: off
FACTS = [
    (PERSON, "job",
        ["What does {e} do for a living?", "What is {e}'s trade?", "What work does {e} do?",
         "Which profession has {e}?", "How does {e} earn {his} bread?"],
        ["{e} is {ajob}.", "{e} works as {ajob}.", "{he} is the {job} {at}."],
        ["{e} is {ajob}.", "{e} works as {ajob} {at}.", "Everybody knows {e} the {job}."],
    ),
    (PERSON, "name",
        ["Who is the {job}?", "What is the name of the {job}?", "Who works as {ajob}?",
         "I need {ajob}. Whom should I ask for?"],
        ["The {job} is {e}.", "That is {e}.", "{e} is the {job}."],
        ["The {job} is called {e}.", "If you need {ajob}, ask for {e}."],
    ),
    (PERSON, "home",
        ["Where does {e} live?", "Where is {e}'s home?", "In which place does {e} live?",
         "Where can I find {e}?", "Where should I look for {e}?"],
        ["{e} lives {at}.", "{his} home is {home}.", "You can find {him} {at}.", "{at}."],
        ["{e} lives {at}.", "{e} has a house {at}.", "You will find {e} {at}."],
    ),
    (PERSON, "hair",
        ["What colour is {e}'s hair?", "What hair does {e} have?", "Which colour has {e}'s hair?",
         "How can I tell {e} by {his} hair?"],
        ["{e} has {hair} hair.", "{his} hair is {hair}.", "Look for {hair} hair."],
        ["{e} has {hair} hair.", "{e}'s hair is {hair}.", "You can tell {e} by {his} {hair} hair."],
    ),
    (PERSON, "trait",
        ["What is {e} like?", "How would you describe {e}'s nature?", "What kind of person is {e}?",
         "What do people say about {e}?"],
        ["{e} is {trait}.", "People call {e} {trait}.", "{he} is known to be {trait}."],
        ["{e} is {trait}.", "People say that {e} is {trait}.", "By nature {e} is {trait}."],
    ),
    (PERSON, "wish",
        ["What does {e} wish for?", "What is {e}'s dearest wish?", "What does {e} dream of?",
         "What does {e} want most of all?"],
        ["{e} wants {wish}.", "{his} dearest wish is {wish}.", "{he} hopes {wish}."],
        ["{e} wants {wish}.", "{e}'s dearest wish is {wish}.", "All {his} life {e} has hoped {wish}."],
    ),
    (PERSON, "fear",
        ["What is {e} afraid of?", "What does {e} fear?", "What frightens {e}?",
         "What scares {e} the most?"],
        ["{e} is afraid of {fear}.", "{he} fears {fear}.", "It is {fear}."],
        ["{e} is afraid of {fear}.", "Nothing frightens {e} like {fear}.", "{e} fears {fear}."],
    ),
    (PERSON, "pet",
        ["What pet does {e} have?", "Which animal belongs to {e}?", "Does {e} keep an animal?",
         "What animal does {e} keep?"],
        ["{e} has {pet}.", "{he} keeps {pet}.", "{pet} belongs to {e}."],
        ["{e} has {pet}.", "{e} keeps {pet}.", "{e} is often seen with {pet}."],
    ),
    (PERSON, "friend",
        ["Who is {e}'s best friend?", "Whom does {e} trust?", "Who is a friend of {e}?",
         "Who is closest to {e}?"],
        ["{e}'s best friend is {friend}.", "{he} trusts {friend}.", "That is {friend}."],
        ["{e}'s best friend is {friend}.", "{e} trusts {friend} above all others.",
         "{e} and {friend} are old friends."],
    ),
    (PERSON, "item",
        ["What does {e} own?", "Which treasure belongs to {e}?", "What precious thing does {e} have?",
         "Which item is {e}'s?"],
        ["{e} owns the {item}.", "{he} has the {item}.", "The {item} belongs to {e}."],
        ["{e} owns the {item}.", "{e} would never sell the {item}.", "{e} is the owner of the {item}."],
    ),
    (PERSON, "age",
        ["How old is {e}?", "What is {e}'s age?", "How many years has {e} lived?"],
        ["{e} is {age} years old.", "{he} is {age}.", "{e} has seen {age} winters."],
        ["{e} is {age} years old.", "{e} has seen {age} winters."],
    ),
    (ITEM, "owner",
        ["Who owns the {e}?", "Whose is the {e}?", "To whom does the {e} belong?", "Who has the {e}?",
         "Who is the owner of the {e}?"],
        ["{owner} owns the {e}.", "The {e} belongs to {owner}.", "The owner is {owner}.",
         "{owner}, the {job}."],
        ["The {e} belongs to {owner}.", "{owner} the {job} owns the {e}.",
         "The {e} is the property of {owner}."],
    ),
    (ITEM, "power",
        ["What does the {e} do?", "What is special about the {e}?", "What power has the {e}?",
         "Why is the {e} so valuable?"],
        ["The {e} {power}.", "It {power}.", "They say that it {power}."],
        ["The {e} {power}.", "It is said that the {e} {power}."],
    ),
    (ITEM, "kept",
        ["Where is the {e} kept?", "Where can I find the {e}?", "Where is the {e} hidden?",
         "Where does {owner} keep the {e}?"],
        ["The {e} is kept {kept}.", "It is {kept}.", "{owner} keeps it {kept}."],
        ["The {e} is kept {kept}.", "{owner} keeps the {e} {kept}.", "You would find the {e} {kept}."],
    ),
    (ITEM, "price",
        ["How much is the {e} worth?", "What is the price of the {e}?", "What does the {e} cost?",
         "How many coins is the {e} worth?"],
        ["The {e} is worth {price} coins.", "It costs {price} coins.", "{price} coins."],
        ["The {e} is worth {price} coins.", "A trader once offered {price} coins for the {e}.",
         "The price of the {e} is {price} coins."],
    ),
    (PLACE, "kind",
        ["What is {e}?", "What kind of place is {e}?", "Can you explain what {e} is?"],
        ["{e} is {akind} in {region}.", "It is {akind}.", "{e} is {akind}."],
        ["{e} is {akind}.", "{e} is {akind} in {region}."],
    ),
    (PLACE, "region",
        ["In which region is {e}?", "Where does {e} lie?", "Where on the map is {e}?",
         "Which part of the country is {e} in?"],
        ["{e} lies in {region}.", "It is in {region}.", "In {region}."],
        ["{e} lies in {region}.", "Travellers reach {e} through {region}."],
    ),
    (PLACE, "feature",
        ["What is {e} known for?", "What can I see {prep} {e}?", "What is famous {prep} {e}?",
         "What stands out {prep} {e}?"],
        ["{e} is known for {feature}.", "You can see {feature}.", "It is famous for {feature}."],
        ["{e} is known for {feature}.", "Visitors come to {e} to see {feature}.",
         "There is {feature} {prep} {e}."],
    ),
    (PLACE, "warden",
        ["Who rules {e}?", "Who is the warden of {e}?", "Who keeps the peace {prep} {e}?",
         "Who is in charge of {e}?"],
        ["The warden of {e} is {warden}.", "{warden} is in charge there.",
         "{warden} keeps the peace {prep} {e}."],
        ["The warden of {e} is {warden}.", "{warden} keeps the peace {prep} {e}.", "{warden} rules {e}."],
    ),
    (PLACE, "road",
        ["Where does the road from {e} lead?", "Which place comes after {e} on the road?",
         "Where do I get to if I follow the road from {e}?"],
        ["The road from {e} leads to {road}.", "You get to {road}.", "It leads to {road}."],
        ["The road from {e} leads to {road}.", "From {e} you can walk to {road} in {days} days."],
    ),
    (QUEST, "giver",
        ["Who gives the quest {e}?", "Whom do I ask about the quest {e}?", "Who started the quest {e}?",
         "From whom do I get the quest {e}?"],
        ["The quest {e} is given by {giver}.", "Ask {giver}.", "{giver} gives that quest."],
        ["The quest {e} is given by {giver}.", "{giver} looks for somebody to take the quest {e}."],
    ),
    (QUEST, "task",
        ["What must I do in the quest {e}?", "What is the quest {e} about?", "What is the task in {e}?"],
        ["You must {task}.", "In the quest {e} you have to {task}.", "The task is to {task}."],
        ["In the quest {e} you have to {task}.", "The quest {e} asks you to {task}."],
    ),
    (QUEST, "spot",
        ["Where does the quest {e} take place?", "Where must I go for the quest {e}?",
         "Where is the quest {e}?"],
        ["The quest {e} takes place {at}.", "Go to {spot}.", "It takes place {at}."],
        ["The quest {e} takes place {at}.", "For the quest {e} you must travel to {spot}."],
    ),
    (QUEST, "foe",
        ["Who is the enemy in the quest {e}?", "Against whom do I fight in {e}?",
         "What foe waits in the quest {e}?"],
        ["You fight against {foe}.", "The enemy is {foe}.", "In the quest {e} you meet {foe}."],
        ["In the quest {e} you meet {foe}.", "The enemy in the quest {e} is {foe}."],
    ),
    (QUEST, "reward",
        ["What is the reward for the quest {e}?", "How many coins does the quest {e} pay?",
         "How much do I get for {e}?"],
        ["The reward is {reward} coins.", "The quest {e} pays {reward} coins.",
         "{giver} pays {reward} coins."],
        ["The reward for the quest {e} is {reward} coins.", "The quest {e} pays {reward} coins."],
    ),
    (SHOP, "spot",
        ["Where is the shop {e}?", "Where can I find {e}?", "In which place is {e}?"],
        ["The shop {e} is {at}.", "You will find it {at}.", "{e} is {at}."],
        ["The shop {e} is {at}.", "{e} opens every morning {at}."],
    ),
    (SHOP, "keeper",
        ["Who runs the shop {e}?", "Who owns the shop {e}?", "Who stands behind the counter of {e}?"],
        ["{keeper} runs the shop {e}.", "The shop belongs to {keeper}.", "That is {keeper}."],
        ["{keeper} runs the shop {e}.", "The shop {e} belongs to {keeper}."],
    ),
    (CREATURE, "lair",
        ["Where does the {e} live?", "Where is the lair of the {e}?",
         "Near which place does the {e} hide?"],
        ["The {e} lives near {lair}.", "Its lair is near {lair}.", "It hides near {lair}."],
        ["The {e} lives near {lair}.", "Beware of the {e} near {lair}."],
    ),
    (CREATURE, "weak",
        ["What is the {e} weak against?", "How can I beat the {e}?", "What does the {e} fear?"],
        ["The {e} fears {weak}.", "Use {weak}.", "It can not stand {weak}."],
        ["The {e} fears {weak}.", "Against the {e} use {weak}."],
    ),
    (CREATURE, "food",
        ["What does the {e} eat?", "What is the food of the {e}?"],
        ["The {e} eats {food}.", "It eats {food}."],
        ["The {e} eats {food}.", "The favourite food of the {e} is {food}."],
    ),
]
# fmt: on
FACTS_OF = {k: [f for f in FACTS if f[0] == k] for k in FORMS}
KIND_WEIGHT = [PERSON] * 10 + [ITEM] * 6 + [PLACE] * 3 + [QUEST] * 3 + [SHOP] * 1 + [CREATURE] * 1


def fill(template, forms):
    return cap(template.format(**forms))


# The name in a statement was replaced by "he" or "she"; where it is no subject, "him" or "her" is right.
PRONOUNS = [
    (before + nom + after, before + obj + after)
    for nom, obj in (("he", "him"), ("she", "her"))
    for before, after in (("ask for ", "."), ("frightens ", " "), ("tell ", " by"), ("find ", " "))
] + [
    ("Everybody knows %s the" % nom, "Everybody knows %s as the" % obj)
    for nom, obj in (("he", "him"), ("she", "her"))
]


def section(r, kind, forms, must=None, n=0):
    """A paragraph about one entity; `must` is a fact that has to be in it."""
    facts = [f for f in FACTS_OF[kind] if not (kind == PERSON and f[1] == "name")]
    n = n or r.range(3, 6)
    chosen = r.some(facts, n)
    if must is not None and must not in chosen:
        chosen[r.below(len(chosen))] = must
    out = []
    for k, f in enumerate(chosen):
        s = r.pick(f[4])
        if (
            k
            and kind == PERSON
            and "{e}" in s
            and "{e}'s" not in s
            and s.count("{he}") == 0
            and r.chance(55)
        ):
            s = s.replace("{e}", "{he}")
        elif k and kind == PERSON and "{e}'s" in s and r.chance(40):
            s = s.replace("{e}'s", "{his}")
        s = fill(s, forms)
        for wrong, right in PRONOUNS:
            s = s.replace(wrong, right)
        out.append(s)
    return " ".join(out)


def any_entity(r):
    kind = r.pick(KIND_WEIGHT)
    return kind, r.pick(FORMS[kind])


# ---------------------------------------------------------------- free text

TIMES = words("""
at dawn, before sunrise, late in the evening, at noon, shortly after midnight, in the early afternoon, on
market day, on the first day of spring, in the middle of winter, one autumn morning, at the end of a long
summer, during the feast, on a Sunday, three days later, a week ago, after the great storm, when the bells
rang, while the others slept""")
WEATHER = words("""
rain drummed on the roofs, a cold wind blew from the north, the sun burned in a clear sky, thick fog lay
over the fields, snow fell without a sound, clouds hung low and grey, thunder rolled behind the hills, the
air smelled of wet hay, a warm breeze moved the grass, frost covered every window, the moon stood pale above
the trees, hail rattled against the shutters, mist crept along the river, the night was full of stars, dust
danced in the hot air, a rainbow stretched across the valley""")
ADJ = words("""
old, small, heavy, dusty, bright, broken, strange, narrow, golden, quiet, wet, rotten, crooked, empty, warm,
bitter, sharp, pale, huge, hidden, forgotten, polished, torn, smoky, sweet, cheap, rare, noisy, shallow,
tangled, stolen, painted""")
NOUNS = words("""
door, barrel, cart, letter, rope, fence, boat, bucket, candle, ladder, horse, coin, table, window, bridge,
sack, knife, bell, wheel, cloak, kettle, stone, chest, basket, mushroom, apple, chair, torch, hat, book,
bone, net, mask, chimney, statue, pipe, button, blanket, map, drum, feather, bottle, egg, saddle, mirror,
nail, shoe, cheese, pumpkin, root""")
ACTS = words("""
opened the {a} {n}, dropped {an} {n}, sat down on {an} {n}, looked for the {a} {n}, carried {an} {n} across
the yard, hid behind the {a} {n}, sold {an} {n} for {k} coins, tripped over {an} {n}, repaired the {a} {n},
stared at the {a} {n}, bought {k} {a} {ns}, threw {an} {n} into the river, counted the {a} {ns} twice,
cleaned the {a} {n} with a rag, painted the {n} {c}, wrapped the {a} {n} in cloth, borrowed {an} {n} from
{q}, pulled {an} {n} out of the mud, knocked on the {a} {n}, whistled an old tune, laughed until {his} belly
hurt, waited for {k} hours, lost {k} coins at dice, fell asleep under the {a} {n}, counted to {k}, ran down
the hill, asked {q} for help, wrote {q} a letter, told {q} about the {a} {n}, shared a meal with {q},
followed {q} to {pl}, quarrelled with {q} about {an} {n}, gave {q} {an} {n}, promised {q} {k} coins, walked
from {pl} to {pl2}, dreamed of {pl}, came back from {pl} with {an} {n}, kissed the {a} {n} for luck, lit {k}
candles, shook {his} head, climbed onto the {a} {n}, tasted the soup, burned {his} fingers""")
HOW = words(
    """
slowly, without a word, in a hurry, with great care, as quietly as possible, angrily, with a smile, once
more, at last, by mistake, in secret, with both hands, for the second time, like a child, against all advice"""
)
LINKS = words(
    "Then, After that, A moment later, Meanwhile, Soon, In the end, At once, Much later, So, Still, Suddenly"
)
SAYS = words(
    "asked, said, whispered, shouted, muttered, replied, answered, called, growled, sighed, laughed"
)
LINES = words("""
I have seen {an} {n} like this before|The {n} is too {a} for me|Give me {k} coins and it is yours|Never
trust {an} {n}| We should leave before dark|There is something behind the {n}|My {n} was stolen last
night|Did you hear the news from {pl}| Nobody goes to {pl} any more|You look tired|I will be back in {k}
days|Where did you get that {a} {n}|It was not my fault| The road to {pl} is closed|Have you seen {q}|{q}
owes me {k} coins|I do not believe a word of it|Bring me {an} {n} and we shall see| Tomorrow I ride to
{pl}|That will cost you {k} coins|Hold the {n} and do not move|What would {q} do|This {n} smells of {a}
fish| Sit down and eat something|I dreamed of {an} {n} again|The {n} must be {a} by now|Count them again|It
is only {an} {n}""".replace("|", ","))
FEEL = words("""
felt a little better, was not amused, could hardly believe it, decided to wait, had forgotten why, was glad
to be home, knew that something was wrong, had no answer, thought of home, was ready to leave, wanted to
cry, smiled for the first time in days, was too tired to argue, felt the cold again, did not sleep that
night""")
COLOURS = words("red, blue, green, yellow, black, white, grey, purple")
SECTIONS_OF_LETTER = words("""
The harvest was {a} this year, We have {k} {ns} left, The children ask about {pl}, Please send {an} {n}, My
back is no better, {q} sends greetings, The roof is still {a}, I sold the {a} {n} for {k} coins, Do not
forget the {n}, The price of flour rose to {k} coins, Last night the {n} broke, The road through {pl} is
flooded, I hope that the {n} reached you, There are {k} strangers in the inn, We found {an} {n} in the
cellar, {q} was seen near {pl}, Write soon, The winter will be {a}""")
RUMOURS = words("""
that {q} found {an} {n} near {pl}, that the price of {ns} will rise, that nobody has seen {q} for {k} days,
that {q} and {q2} quarrelled, that {an} {n} was stolen from {q}, that {k} riders are on the way to {pl},
that the well {inpl} is cursed, that {q} pays {k} coins for {an} {n}, that a ship full of {ns} sank near
{pl}, that {q2} is leaving {pl} for good""")


def slots(r, p=None):
    a, n = r.pick(ADJ), r.pick(NOUNS)
    q, q2 = r.pick(W.people), r.pick(W.people)
    pl, pl2 = r.pick(W.places), r.pick(W.places)
    return dict(
        a=a,
        n=n,
        ns=many(n),
        an=an(a + " " + n).rsplit(" ", 1)[0],
        c=r.pick(COLOURS),
        k=r.range(2, 60),
        q=q["name"],
        q2=q2["name"],
        pl=pl["name"],
        inpl=pl["at"],
        pl2=pl2["name"],
        his=p["his"] if p else "their",
    )


def free(r, template, p=None):
    return template.format(**slots(r, p))


def act(r, p):
    s = free(r, r.pick(ACTS), p)
    return s + (" " + r.pick(HOW) if r.chance(30) else "")


def quote(r, p):
    line = free(r, r.pick(LINES), p)
    mark = "?" if line.split()[0] in ("Have", "Where", "What", "Did") else r.pick([".", "!", "."])
    says = "asked" if mark == "?" else r.pick(SAYS[1:])
    who = r.pick([p["name"], p["name"], p["he"], "the " + p["job"]])
    if r.chance(60):
        return (
            '"%s%s" %s %s.' % (line, "," if mark == "." else mark, says, who)
            if who != p["he"]
            else '"%s%s" %s %s.' % (line, "," if mark == "." else mark, who, says)
        )
    return '%s %s: "%s%s"' % (cap(who), says, line, mark)


def scene(r, about=None, n=0):
    p = about or r.pick(W.people)
    other = r.pick(W.people)
    pl = r.pick(W.places)
    out = []
    opening = r.below(6)
    if opening == 0:
        out.append("%s, %s." % (cap(r.pick(TIMES)), r.pick(WEATHER)))
        out.append("%s %s." % (p["name"], act(r, p)))
    elif opening == 1:
        out.append("%s %s %s %s." % (cap(r.pick(TIMES)), p["name"], "the " + p["job"], act(r, p)))
    elif opening == 2:
        out.append("%s the %s was %s when %s." % (p["name"], p["job"], pl["at"], r.pick(WEATHER)))
    elif opening == 3:
        out.append("%s, and %s %s." % (cap(r.pick(WEATHER)), p["name"], act(r, p)))
    elif opening == 4:
        out.append("%s and %s met %s %s." % (p["name"], other["name"], pl["at"], r.pick(TIMES)))
    else:
        out.append(
            "There was once %s %s %s that everybody %s talked about."
            % (an(r.pick(ADJ)), r.pick(ADJ), r.pick(NOUNS), pl["at"])
        )
    for step in range(n or r.range(2, 8)):
        k = r.below(12)
        who = r.pick([p["he"], p["he"], p["name"]]) if step or opening != 5 else p["name"]
        if k < 3:
            out.append("%s %s." % (cap(who), act(r, p)))
        elif k < 5:
            out.append("%s %s %s and %s." % (r.pick(LINKS), who, act(r, p), act(r, p)))
        elif k < 7:
            out.append(quote(r, p))
        elif k == 7:
            out.append(quote(r, other))
        elif k == 8:
            out.append("%s %s." % (cap(who), r.pick(FEEL)))
        elif k == 9:
            out.append("%s." % cap(r.pick(WEATHER)))
        elif k == 10:
            out.append("%s came %s and %s." % (other["name"], r.pick(TIMES), act(r, other)))
        else:
            f = r.pick([f for f in FACTS_OF[PERSON] if f[1] not in ("name",)])
            out.append(fill(r.pick(f[4]), person_forms(p)))
    return " ".join(out)


def letter(r):
    p, q = r.pick(W.people), r.pick(W.people)
    body = ". ".join(cap(free(r, s)) for s in r.some(SECTIONS_OF_LETTER, r.range(3, 6)))
    return "%s %s, %s. Yours, %s" % (
        r.pick(["Dear", "My dear", "Good"]),
        q["name"],
        (
            body[0].lower() + body[1:]
            if not body.startswith(("I ", q["name"])) and body.split()[0] not in NAMES
            else body
        ),
        p["name"],
    )


NAMES = {p["name"] for p in W.people} | {p["name"] for p in W.places}


def ledger(r):
    s = r.pick(W.shops)
    rows = []
    total = 0
    for g, price in r.some(s["goods"], r.range(2, 4)):
        rows.append("%s, %d coins" % (g, price))
        total += price
    return r.pick(
        [
            "Bought at %s: %s. Together %d coins.",
            "Bill of the shop %s: %s. Sum: %d coins.",
            "At %s I took %s. I paid %d coins.",
        ]
    ) % (s["name"], "; ".join(rows), total)


def rumour(r):
    return "%s %s. %s %s." % (
        r.pick(
            [
                "People say",
                "It is whispered",
                "The sailors tell",
                "I heard",
                "Some believe",
                "A pedlar swears",
            ]
        ),
        free(r, r.pick(RUMOURS)),
        r.pick(["Others say", "The miller thinks", "My aunt insists", "The guards deny"]),
        free(r, r.pick(RUMOURS)),
    )


def travel(r):
    p = r.pick(W.places)
    out = ["We left %s %s; %s." % (p["name"], r.pick(TIMES), r.pick(WEATHER))]
    by = {x["name"]: x for x in W.places}
    for _ in range(r.range(1, 3)):
        nxt = by[p["road"]]
        out.append(
            "The road from %s leads to %s, and after %d days we saw %s."
            % (p["name"], nxt["name"], p["days"], nxt["feature"])
        )
        k = r.below(3)
        if k == 0:
            out.append("%s, the warden, greeted us." % nxt["warden"])
        elif k == 1:
            out.append("On the way we lost %s." % free(r, "{an} {n}"))
        p = nxt
    return " ".join(out)


def shop_text(r):
    s = r.pick(W.shops)
    (g, price), (g2, price2) = r.some(s["goods"], 2)
    return r.pick(
        [
            "The shop %s stands %s. %s sells %s for %d coins and %s for %d coins.",
            "Go to %s %s and ask %s for %s (%d coins) or %s (%d coins).",
        ]
    ) % (s["name"], s["at"], s["keeper"], g, price, g2, price2)


def plain_qa(r):
    out = []
    for _ in range(r.range(1, 3)):
        kind, forms = any_entity(r)
        f = r.pick(FACTS_OF[kind])
        out.append("Q: %s A: %s" % (fill(r.pick(f[2]), forms), fill(r.pick(f[3]), forms)))
    return " ".join(out)


def card(kind, forms):
    """One entity as JSON, the key order fixed."""
    keys = {
        PERSON: ["job", "home", "hair", "item"],
        ITEM: ["owner", "price", "kept"],
        PLACE: ["kind", "region", "warden"],
        QUEST: ["giver", "spot", "reward"],
        SHOP: ["spot", "keeper"],
        CREATURE: ["lair", "weak"],
    }[kind]
    return json.dumps(dict([("name", forms["e"])] + [(k, forms[k]) for k in keys]))


def prose(r):
    k = r.below(100)
    if k < 46:
        return scene(r)
    if k < 72:
        kind, forms = any_entity(r)
        return section(r, kind, forms)
    if k < 78:
        return letter(r)
    if k < 82:
        return ledger(r)
    if k < 87:
        return rumour(r)
    if k < 90:
        return travel(r)
    if k < 93:
        return shop_text(r)
    return plain_qa(r)


# ---------------------------------------------------------------- dialogues

STRANGERS = words("""
Balthor, Wilma, Zephyr, Ingrid, Mordan, Celeste, Hugo, Tamsin, Oswin, Nadia, Gorm, Lysa, Perrin, Agatha,
Dorian, Runa""")
GREET = [
    ("Hello!", "Good day, traveller. What do you want to know?"),
    ("Good morning.", "Good morning to you. How can I help?"),
    ("Hi there.", "Greetings! Ask me about people, places, items or quests."),
    ("Who are you?", "I am the keeper of the chronicle. I know this land."),
    ("What can you do?", "I can tell you about the people, places, items, shops and quests of this land."),
    ("Thank you!", "You are welcome."),
    ("Goodbye.", "Farewell, and mind the road."),
]
SYSTEMS = [
    "You are the keeper of the chronicle.",
    "You are a helpful guide to the land.",
    "Answer in one short sentence.",
    "You know every person and place in this world.",
    "You are a game character. Stay in the world.",
]
LEAD = ["", "", "", "", "Tell me: ", "Please, ", "Excuse me, ", "I wonder: ", "Quick question: "]


def ask(r, question):
    lead = r.pick(LEAD)
    if lead and question.split()[0] not in NAMES and not question.startswith("I "):
        question = lead + question[0].lower() + question[1:]
    return question


def inside(claim):
    """A sentence as the end of another one."""
    return claim if claim.split()[0].split("'")[0] in NAMES else claim[0].lower() + claim[1:]


def true_or_false(r):
    kind, forms = any_entity(r)
    f = r.pick(FACTS_OF[kind])
    s = r.pick(f[4])
    other = r.pick(FORMS[kind])
    if r.chance(50):
        claim = s.format(**forms)
    else:
        mixed = dict(forms)
        mixed[f[1]] = other[f[1]]
        if f[1] == "job":
            mixed["ajob"] = other["ajob"]
        if f[1] in ("home", "spot"):
            mixed["at"] = other["at"]
        claim = s.format(**mixed)
    claim, truth = claim.rstrip("."), s.format(**forms).rstrip(".")
    return "Is it true that %s?" % inside(claim), ("Yes, %s." if claim == truth else "No, %s.") % inside(
        truth
    )


def at_the_shop(r):
    s = r.pick(W.shops)
    g, price = r.pick(s["goods"])
    if r.chance(50):
        question = r.pick(["How much is %s at %s?", "What does %s cost at %s?"]) % (g, s["name"])
        return question, cap(r.pick(["%s costs %d coins.", "At this shop %s costs %d coins."]) % (g, price))
    return r.pick(["Where can I buy %s?", "Who sells %s?"]) % g, "%s sells %s %s." % (
        s["keeper"],
        g,
        s["at"],
    )


def traveller(r):
    """Something that only this dialogue says."""
    n, g, x, pl = r.pick(STRANGERS), r.range(2, 60), many(r.pick(NOUNS)), r.pick(W.places)["name"]
    told = "A traveller called %s brought %d %s to %s. " % (n, g, x, pl)
    q, a = r.pick(
        [
            ("How many %s?" % x, "%d %s." % (g, x)),
            ("Who was it?", "It was %s." % n),
            ("Where to?", "To %s." % pl),
        ]
    )
    return told + q, a


def turn(r):
    """One pair of question and answer."""
    k = r.below(100)
    if k < 66:
        kind, forms = any_entity(r)
        f = r.pick(FACTS_OF[kind])
        return ask(r, fill(r.pick(f[2]), forms)), fill(r.pick(f[3]), forms)
    if k < 72:
        return true_or_false(r)
    if k < 77:
        kind, forms = any_entity(r)
        the = {ITEM: "the ", CREATURE: "the ", QUEST: "the quest ", SHOP: "the shop "}.get(kind, "")
        question = r.pick(["Tell me about %s%s.", "What do you know about %s%s?", "Describe %s%s."])
        return question % (the, forms["e"]), section(r, kind, forms, n=3)
    if k < 81:
        kind, forms = any_entity(r)
        question = r.pick(["%s as JSON.", "Give me %s as JSON.", "JSON card of %s, please."])
        return question % forms["e"], card(kind, forms)
    if k < 85:
        p = r.pick(W.people)
        question = r.pick(
            ["Tell me a short story about %s.", "Do you know a story about %s?", "A tale of %s, please."]
        )
        return question % p["name"], scene(r, p, r.range(2, 3))
    if k < 89:
        return at_the_shop(r)
    if k < 92:
        n = r.pick(STRANGERS)
        question = r.pick(
            ["Who is %s?", "Where does %s live?", "What does %s own?", "Do you know %s?", "How old is %s?"]
        )
        return question % n, r.pick(["I do not know anyone called %s.", "Nobody here is called %s."]) % n
    if k < 95:
        return traveller(r)
    return r.pick(GREET)


def in_character(r):
    """A game character speaks for itself."""
    p = r.pick(W.people)
    f = person_forms(p)
    pairs = [
        ("Who are you?", "I am {e}, the {job}."),
        ("What is your name?", "My name is {e}."),
        ("What do you do?", "I work as {ajob} {at}."),
        ("Where do you live?", "I live {at}."),
        ("What do you wish for?", "I want {wish}."),
        ("What do you own?", "I own the {item}."),
        ("What are you afraid of?", "I am afraid of {fear}."),
        ("Who is your best friend?", "My best friend is {friend}."),
        ("Do you have a pet?", "I have {pet}."),
        ("How old are you?", "I am {age} years old."),
        ("What is the news?", free(r, "They say ") + free(r, r.pick(RUMOURS)) + "."),
    ]
    out = SYSTEM + r.pick(["You are {e}.", "You are {e}, the {job}.", "Speak as {e}."]).format(**f) + END
    for q, a in r.some(pairs, r.range(1, 4)):
        out += USER + q + END + ASSISTANT + a.format(**f) + END
    return out


def chat(r):
    if r.chance(12):
        return BOS + in_character(r)
    out = BOS + (SYSTEM + r.pick(SYSTEMS) + END if r.chance(15) else "")
    for _ in range(r.pick([1, 1, 1, 2, 2, 3, 4])):
        q, a = turn(r)
        out += USER + q + END + ASSISTANT + a + END
    return out


# ---------------------------------------------------------------- the suite


def suite():
    """Questions with one right answer, the paragraph that holds it and a neighbour that does not."""
    r = Rng(77)
    rows = []
    plan = [
        (PERSON, "job", 3),
        (PERSON, "name", 2),
        (PERSON, "home", 3),
        (PERSON, "hair", 2),
        (PERSON, "wish", 3),
        (PERSON, "pet", 2),
        (PERSON, "friend", 2),
        (PERSON, "item", 2),
        (ITEM, "owner", 3),
        (ITEM, "power", 3),
        (ITEM, "kept", 2),
        (ITEM, "price", 2),
        (PLACE, "feature", 2),
        (PLACE, "warden", 1),
        (PLACE, "region", 1),
        (QUEST, "giver", 1),
        (QUEST, "foe", 1),
        (QUEST, "reward", 1),
        (SHOP, "keeper", 1),
        (CREATURE, "weak", 1),
    ]
    for kind, key, count in plan:
        fact = next(f for f in FACTS_OF[kind] if f[1] == key)
        stated = next(
            f for f in FACTS_OF[kind] if f[1] == ("job" if (kind, key) == (PERSON, "name") else key)
        )
        for i in r.some(range(len(FORMS[kind])), count):
            forms, other = FORMS[kind][i], FORMS[kind][(i + 1) % len(FORMS[kind])]
            q = r.some(fact[2], 3)
            rows.append(
                dict(
                    id="%s-%s-%d" % (kind, key, i),
                    question=fill(q[0], forms),
                    paraphrases=[fill(x, forms) for x in q[1:]],
                    answer=str(forms[key]),
                    anchor=section(r, kind, forms, stated, 4 if len(FACTS_OF[kind]) > 4 else 3),
                    distractor=section(r, kind, other, stated, 4 if len(FACTS_OF[kind]) > 4 else 3),
                )
            )
    for i in r.some(range(len(FORMS[PERSON])), 4):
        name = str(FORMS[PERSON][i]["name"])
        rows.append(dict(id="story-%d" % i, question="Tell me a short story about %s." % name, long=True))
    for i in r.some(range(len(FORMS[PERSON])), 2):  # JSON is nothing the model has learnt: a grammar makes it
        job = str(FORMS[PERSON][i]["job"])
        schema = dict(type="object", properties=dict(name=dict(type="string", maxLength=24)), required=["name"])
        rows.append(dict(id="json-%d" % i, question="Who is the %s?" % job, schema=schema))
    return rows


def main():
    ap = argparse.ArgumentParser(description="text of the demo world")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--mb", type=float, default=1.0, help="size of the output in units of 1e6 bytes")
    ap.add_argument("--kind", choices=["prose", "chat", "mix"], default="mix")
    ap.add_argument("--suite", action="store_true", help="write the question suite instead")
    a = ap.parse_args()
    if a.suite:
        for row in suite():
            print(json.dumps(row))
        return
    # One long sequence; neighbouring seeds of Rng are one draw apart, so texts start 2^40 draws apart.
    r, size = Rng(1 + ((a.seed - 1) << 40)), 0
    while size < a.mb * 1e6:
        text = chat(r) if a.kind == "chat" or (a.kind == "mix" and r.chance(50)) else prose(r)
        sys.stdout.write(text + "\n\n")
        size += len(text) + 2


if __name__ == "__main__":
    main()
