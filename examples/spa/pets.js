/** The list of pets: add, edit, delete, and show more. */

import { onPress, onSubmit, removeRow, say } from "./forms.js";
import { send } from "./service.js";

const FIRST_PAGE = "pets?limit=20";

const $ = (id) => document.getElementById(id);
const list = $("pet-list");
const more = $("more-pets");

export function startPets(auth) {
  let next = null;
  let edited = null;
  let deleted = null;

  async function load(url = FIRST_PAGE) {
    const page = await send(auth, "GET", url);
    if (url === FIRST_PAGE) list.replaceChildren();
    const rows = page.body.map(show);
    next = page.next;
    more.hidden = !next;
    showWhetherEmpty();
    return rows;
  }

  function clear() {
    list.replaceChildren();
    list.hidden = more.hidden = $("no-pets").hidden = true;
  }

  /** Add a pet's row at its place in the order of the service, or change the one it has. */
  function show(pet) {
    const row = rowOf(pet.id) ?? newRow();
    row.dataset.id = pet.id;
    row.querySelector(".initial").textContent = [...pet.name][0].toUpperCase();
    row.querySelector("strong").textContent = pet.name;
    row.querySelector(".species").textContent = pet.species ?? "";
    row.querySelector(".edit").ariaLabel = `Edit ${pet.name}`;
    row.querySelector(".delete").ariaLabel = `Delete ${pet.name}`;
    const following = [...list.children].find(({ dataset }) => Number(dataset.id) > pet.id);
    if (!row.isConnected) list.insertBefore(row, following ?? null);
    row.pet = pet;
    return row;
  }

  function newRow() {
    const row = $("pet-row").content.firstElementChild.cloneNode(true);
    row.querySelector(".edit").addEventListener("click", () => {
      edited = row.pet;
      $("edit-pet").reset();
      $("edit-name").value = edited.name;
      $("edit-species").value = edited.species ?? "";
      $("edit-dialog").showModal();
    });
    row.querySelector(".delete").addEventListener("click", () => {
      deleted = row.pet;
      $("delete-pet").reset();
      $("delete-title").textContent = `Delete ${deleted.name}?`;
      $("delete-dialog").showModal();
    });
    return row;
  }

  onSubmit($("add-pet"), async (fields) => {
    const { body } = await send(auth, "POST", "pets", fields);
    show(body);
    showWhetherEmpty();
    $("add-name").focus();
    say(`${body.name} was added.`);
  });

  onSubmit($("edit-pet"), async (fields) => {
    const { body } = await send(auth, "PUT", `pets/${edited.id}`, fields);
    show(body);
    $("edit-dialog").close();
    say(`${body.name} was saved.`);
  });

  onSubmit($("delete-pet"), async () => {
    const { id, name } = deleted;
    await send(auth, "DELETE", `pets/${id}`);
    $("delete-dialog").close();
    removeRow(rowOf(id), $("add-name"));
    showWhetherEmpty();
    say(`${name} was deleted.`);
  });

  onPress(more, async () => {
    const [first] = await load(next);
    first?.querySelector("button").focus();
  });

  return { load: () => load(), clear };
}

const rowOf = (id) => list.querySelector(`[data-id="${id}"]`);

function showWhetherEmpty() {
  const isEmpty = list.childElementCount === 0;
  list.hidden = isEmpty;
  $("no-pets").hidden = !isEmpty;
}
